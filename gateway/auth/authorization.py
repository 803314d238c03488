"""Authorization by plugins: each authorizer in its order, then the tokens."""

import time
from collections.abc import Sequence

from gateway.auth.plugin_authorizer import PluginAuthorizer
from gateway.auth.tokens import Tokens
from marq.plugins.protocols import INFERENCE, Access, Allow, Headers

MOST_KEPT = 10_000  # decisions
LONGEST_S = 3600.0  # for which one is kept
Key = tuple[object, ...]


class Authorization(Tokens):
    """Tokens behind authorizers. This host's own commands are not judged."""

    def __init__(self, required: bool, local: str, authorizers: Sequence[PluginAuthorizer]) -> None:
        super().__init__(required, local)
        self.is_open = False
        self._authorizers = authorizers
        self._headers = tuple(dict.fromkeys(name for each in authorizers for name in each.headers))
        self._kept: dict[Key, float] = {}  # the ends of the decisions that are kept

    def admits_at_once(
        self, headers: Headers, method: bytes, url: bytes, model: str, version: str | None
    ) -> bool:
        if b"%" in url:
            return False
        access = Access(INFERENCE, method.decode("latin-1"), url.decode("latin-1"), headers, model, version)
        return self._is_kept(self._key(access)) or self.is_local(headers)

    async def authorize(self, access: Access) -> None:
        if self.is_local(access.headers):
            return
        key = self._key(access)
        if self._is_kept(key):
            return
        for authorizer in self._authorizers:
            if decision := await authorizer.decide(access):
                self._keep(key, decision)
                return
        await super().authorize(access)

    def _key(self, access: Access) -> Key:
        """All that a decision depends on."""
        named = ((name.lower(), value) for name, value in access.headers)
        values = tuple((name, value) for name, value in named if name in self._headers)
        parts = access.plane, access.method, access.route, access.model, access.version, access.subject
        return *parts, values

    def _is_kept(self, key: Key) -> bool:
        return self._kept.get(key, 0.0) > time.monotonic()

    def _keep(self, key: Key, decision: Allow) -> None:
        if decision.valid_for_s <= 0:
            return
        self._kept.pop(key, None)
        self._kept[key] = time.monotonic() + min(decision.valid_for_s, LONGEST_S)
        if len(self._kept) > MOST_KEPT:
            del self._kept[next(iter(self._kept))]
