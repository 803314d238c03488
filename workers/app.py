"""The Celery app of all pools: what `celery -A workers.app inspect|control` and Flower talk to.

Celery runs and steers pools; predictions and jobs never pass through its messages.
"""

import logging
import os
import sys
from pathlib import Path

from celery import Celery
from celery.signals import setup_logging

from marq import keys, logs
from marq.connections import primary, sentinels
from marq.connections.urls import KEEPALIVE
from workers.launch import PoolSpec


def broker_settings(url: str | None) -> dict[str, object]:
    """The Redis URL as kombu spells it: it has its own schemes for Unix sockets, and for sentinels."""
    if url and sentinels.is_url(url):
        return _sentinel_settings(sentinels.of(url))
    if url and url.startswith("unix:"):
        url = "redis+socket:" + url.removeprefix("unix:").partition("?")[0]
    return {"broker_url": url, "broker_transport_options": {"global_keyprefix": keys.CELERY}}


def _sentinel_settings(found: sentinels.Sentinels) -> dict[str, object]:
    urls = [
        f"sentinel://{found.login}{sentinels.netloc(address)}/{found.database}" for address in found.addresses
    ]
    options = {
        "master_name": found.service, "sentinel_kwargs": found.options,
        "socket_timeout": primary.REPLY_TIMEOUT_S, **KEEPALIVE,
    }  # fmt: skip
    return {
        "broker_url": ";".join(urls),
        "broker_transport_options": {"global_keyprefix": keys.CELERY, **options},
        "broker_use_ssl": found.tls_options(),
    }


app = Celery("marq")
app.conf.update(
    **broker_settings(os.environ.get("MARQ_REDIS_URL")),
    broker_connection_retry_on_startup=True,
    accept_content=["json"],
    task_serializer="json",
    result_serializer="json",
    task_ignore_result=True,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    control_queue_expires=60.0,
)


@setup_logging.connect  # type: ignore[untyped-decorator]
def configure_logging(**_: object) -> None:
    """In a pool: its log goes where the logs of gateways and nodes go.

    Celery prints some words about each stop. A console that is not read would hold the pool up there.
    """
    sys.__stdout__ = Path(os.devnull).open("w")  # type: ignore[misc] # noqa: SIM115 - stays open
    logs.configure("pool", Path(PoolSpec.from_environment().log_file).parent)
    for library in ("celery", "kombu"):
        logging.getLogger(library).setLevel(logging.WARNING)
