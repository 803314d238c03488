"""marq's Redis URLs as settings of Celery: kombu has its own schemes for Unix sockets, and for sentinels."""

from marq.connections import primary, sentinels
from marq.connections.urls import KEEPALIVE


def broker_settings(url: str | None, prefix: str) -> dict[str, object]:
    """The broker of a Celery app; `prefix` begins all keys that it writes. A URL of another broker stays."""
    if url and sentinels.is_url(url):
        found = sentinels.of(url)
        return {
            "broker_url": _sentinel_urls(found),
            "broker_transport_options": _sentinel_options(found, prefix),
            "broker_use_ssl": found.tls_options(),
        }
    return {"broker_url": _plain(url), "broker_transport_options": {"global_keyprefix": prefix}}


def backend_settings(url: str, prefix: str) -> dict[str, object]:
    """The result backend of a Celery app."""
    if sentinels.is_url(url):
        found = sentinels.of(url)
        return {
            "result_backend": _sentinel_urls(found),
            "result_backend_transport_options": _sentinel_options(found, prefix),
            "redis_backend_use_ssl": found.tls_options(),
        }
    return {"result_backend": _plain(url), "result_backend_transport_options": {"global_keyprefix": prefix}}


def _plain(url: str | None) -> str | None:
    if url and url.startswith("unix:"):
        return "redis+socket:" + url.removeprefix("unix:").partition("?")[0]
    return url


def _sentinel_urls(found: sentinels.Sentinels) -> str:
    return ";".join(
        f"sentinel://{found.login}{sentinels.netloc(address)}/{found.database}" for address in found.addresses
    )


def _sentinel_options(found: sentinels.Sentinels, prefix: str) -> dict[str, object]:
    return {
        "global_keyprefix": prefix, "master_name": found.service, "sentinel_kwargs": found.options,
        "socket_timeout": primary.REPLY_TIMEOUT_S, **KEEPALIVE,
    }  # fmt: skip
