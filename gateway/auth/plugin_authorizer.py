"""One authorizer of a plugin, called in threads, with a time limit."""

import asyncio
import logging
import time

from marq.errors import AccessDenied, MarqError, ServiceUnavailable, Unauthorized
from marq.plugins.discovery import Plugin
from marq.plugins.protocols import Access, Allow, Deny
from marq.plugins.threads import DaemonThreads

log = logging.getLogger(__name__)

LIMIT_S = 5.0
SLOW_S = 0.5
THREADS = 8  # of each authorizer in each gateway
QUIET_S = 60.0  # between two lines about a slow one


class BadDecision(MarqError):
    """Raised when an authorizer returns something that is not a decision."""


class PluginAuthorizer:
    """An authorizer. Whatever it does, a request is allowed, refused, or left to the next one."""

    def __init__(self, plugin: Plugin, limit_s: float = LIMIT_S) -> None:
        self._made, self._label, self._limit_s = plugin.made, plugin.found.label, limit_s
        self.headers = tuple(str(name).lower().encode() for name in plugin.made.headers)
        self._threads = DaemonThreads(plugin.found.name, THREADS)
        self._quiet_until = 0.0

    async def decide(self, access: Access) -> Allow | None:
        """None: the next one decides. Raises ServiceError for a request that is refused.

        An authorizer that fails or takes too long refuses with 503.
        """
        began = time.monotonic()
        running = asyncio.wrap_future(self._threads.run(lambda: self._made.decide(access)))
        try:
            decision = _checked(await asyncio.wait_for(running, self._limit_s))
        except TimeoutError:
            log.error("%s has not decided within %g s: the request is refused", self._label, self._limit_s)
            raise self._unavailable() from None
        except Exception:
            log.exception("%s failed: the request is refused", self._label)
            raise self._unavailable() from None
        self._note(time.monotonic() - began)
        if isinstance(decision, Deny):
            raise _refusal(decision)
        return decision

    def _note(self, seconds: float) -> None:
        now = time.monotonic()
        if seconds > SLOW_S and now > self._quiet_until:
            self._quiet_until = now + QUIET_S
            log.warning("%s is slow: it took %.1f s to decide", self._label, seconds)

    def _unavailable(self) -> ServiceUnavailable:
        return ServiceUnavailable("The authorizer of this server does not work.")


def _checked(decision: object) -> Allow | Deny | None:
    if decision is None or isinstance(decision, Allow | Deny):
        return decision
    raise BadDecision(f"decide returned {decision!r:.100}, which is neither Allow, Deny nor None")


def _refusal(decision: Deny) -> AccessDenied | Unauthorized:
    return (
        Unauthorized(decision.reason)
        if decision.status == Unauthorized.status
        else AccessDenied(decision.reason)
    )
