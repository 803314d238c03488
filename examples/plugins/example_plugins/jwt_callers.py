"""JSON Web Tokens: who may ask which model is a claim of the caller's token.

`EXAMPLE_JWT_KEY` is a secret, or a public key in PEM; `EXAMPLE_JWT_KEYS_URL` the key set of an OpenID
provider (`jwks_uri`). `EXAMPLE_JWT_AUDIENCE`, if it is set, must be the token's.
"""

import os
import time
from typing import Any

import jwt

from marq.plugins.protocols import Access, Allow, Deny

ALGORITHMS = {"secret": ["HS256"], "public": ["RS256", "ES256", "EdDSA"]}
OPEN = ("/ping",)  # load balancers have no token
MANAGE = "marq:manage"  # the scope for the management API


class JwtCallers:
    """The claim `models` lists the models that the caller may ask (`*`: all); `scope` has MANAGE."""

    protocol = 1
    headers = ("authorization",)

    def __init__(self) -> None:
        self._audience = os.environ.get("EXAMPLE_JWT_AUDIENCE")
        url, self._key = os.environ.get("EXAMPLE_JWT_KEYS_URL"), os.environ.get("EXAMPLE_JWT_KEY", "")
        self._keys = jwt.PyJWKClient(url, timeout=3) if url else None
        if not url and len(self._key) < 32:
            raise ValueError("set EXAMPLE_JWT_KEYS_URL, or EXAMPLE_JWT_KEY with at least 32 characters")
        is_secret = not url and not self._key.startswith("-----BEGIN")
        self._algorithms = ALGORITHMS["secret" if is_secret else "public"]

    def decide(self, access: Access) -> Allow | Deny:
        """Runs in a thread: a look-up of the provider's keys may take its time."""
        if access.route in OPEN:
            return Allow()
        kind, _, token = access.header("authorization").partition(" ")
        if kind.lower() != "bearer":
            return Deny("Send a token: Authorization: Bearer ...", 401)
        try:
            claims = self._claims(token.strip())
        except jwt.InvalidTokenError as error:
            return Deny(f"The token is not valid: {error}", 401)
        if access.plane == "management" and MANAGE not in str(claims.get("scope", "")).split():
            return Deny(f"The token lacks the scope {MANAGE}.")
        given, asked = claims.get("models", []), access.model or access.route.startswith("/jobs")
        models = given if isinstance(given, list) else [given]
        if access.plane == "inference" and asked and not ("*" in models or access.model in models):
            return Deny(
                f"The token is not for {f'the model {access.model}' if access.model else 'all models'}."
            )
        return Allow(valid_for_s=min(60.0, claims["exp"] - time.time()))

    def _claims(self, token: str) -> dict[str, Any]:
        key = self._keys.get_signing_key_from_jwt(token) if self._keys else self._key
        options: Any = {"require": ["exp"], "verify_aud": self._audience is not None}
        return jwt.decode(token, key, self._algorithms, audience=self._audience, options=options)
