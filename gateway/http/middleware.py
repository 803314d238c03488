"""What stands in front of the applications of a gateway process: the access log, and CORS for browsers."""

import asyncio

from starlette.middleware.cors import CORSMiddleware

from gateway.asgi import ASGIApp
from gateway.http.access_log import AccessLog, AccessLogged, LoggedProtocol
from gateway.http.protocols import InferenceProtocol, ManagementProtocol
from marq import logs
from marq.settings.fields import Settings

SIMPLE_METHODS = ["GET", "HEAD", "POST"]  # those that browsers allow of themselves
EXPOSED = ["x-request-id", "location"]  # headers of answers that scripts may read


class Front:
    """One for each gateway process; `protocol` is the one for connections to the inference address."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._access_log = AccessLog(settings.log_dir / logs.ACCESS_LOG) if settings.access_log else None
        self.protocol: type[asyncio.Protocol] = InferenceProtocol
        if settings.cors:
            self.protocol = ManagementProtocol  # without the short cut, which passes CORS by
        elif self._access_log:
            LoggedProtocol.lines = self._access_log
            self.protocol = LoggedProtocol

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
        return AccessLogged(app, self._access_log) if self._access_log else app

    async def follow(self) -> None:
        """Keeps the access log written; never returns where there is one."""
        if self._access_log:
            await self._access_log.follow()


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
