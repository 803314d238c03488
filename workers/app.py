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
from marq.connections.celery_urls import broker_settings
from workers.launch import PoolSpec

app = Celery("marq")
app.conf.update(
    **broker_settings(os.environ.get("MARQ_REDIS_URL"), keys.CELERY),
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
