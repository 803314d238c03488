"""The layers in front of a gateway's applications: fast path, access log, and CORS for browsers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

import uvicorn
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from gateway.asgi import Watched
from gateway.http import uvicorn_internals
from gateway.http.access_log import AccessLog, LoggedProtocol
from gateway.http.exchange import Runs
from gateway.http.header_limits import Limits
from gateway.http.http_1_0 import Http10
from gateway.http.protocols import InferenceProtocol, ManagementProtocol
from gateway.inference.predictor import Predictor
from gateway.metrics.counting import RequestMeter
from marq import logs
from marq.settings.fields import Settings

SIMPLE_METHODS = ["GET", "HEAD", "POST"]  # which browsers allow without CORS
EXPOSED = ["x-request-id", "location", "warning"]  # headers of answers that scripts may read


NOT_FAST = (
    "uvicorn %s lacks %s: predictions take the slower ASGI path, and slow clients are not ended. "
    "Install a version that pyproject.toml allows."
)

log = logging.getLogger(__name__)


class Front:
    """One for each gateway process; `access_log` is None where it is switched off.

    `protocol` is the one for connections to the inference address, `managing` the one for the others.
    """

    def __init__(
        self, settings: Settings, predictor: Predictor, meter: RequestMeter, runs: Runs | None = None
    ) -> None:
        self._settings = settings
        self.access_log = _access_log(settings)
        limits = Limits.of(settings)
        self.leaving = limits.leaving
        self.managing: Callable[..., asyncio.Protocol] = partial(ManagementProtocol, limits=limits)
        self.protocol: Callable[..., asyncio.Protocol] = partial(
            InferenceProtocol, predictor=predictor, meter=meter, runs=runs, limits=limits
        )
        missing = uvicorn_internals.missing()
        self.knows_uvicorn = not missing
        if missing:
            log.warning(NOT_FAST, uvicorn.__version__, ", ".join(missing))
        if missing or settings.cors:
            self.protocol = self.managing  # the fast path bypasses the applications, and with them CORS
        elif self.access_log:
            self.protocol = partial(
                LoggedProtocol,
                predictor=predictor,
                meter=meter,
                lines=self.access_log,
                runs=runs,
                limits=limits,
            )

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """The application as it is served."""
        settings = self._settings
        if settings.cors:
            app = CORSMiddleware(
                app,
                allow_origins=_items(settings.cors_allowed_origin),
                allow_methods=_items(settings.cors_allowed_methods) or SIMPLE_METHODS,
                allow_headers=_items(settings.cors_allowed_headers),
                expose_headers=EXPOSED,
            )
        return Http10(Watched(app, self.access_log.watch) if self.access_log else app)

    def tasks(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """The background tasks that keep the access log written; none where it is switched off."""
        return {"access log": self.access_log.follow} if self.access_log else {}


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _access_log(settings: Settings) -> AccessLog | None:
    if not settings.access_log:
        return None
    return AccessLog(settings.log_dir / logs.ACCESS_LOG, settings.access_log_on_console)
