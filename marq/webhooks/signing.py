"""Signatures of messages, as in Standard Webhooks 1.0."""

import base64
import hashlib
import hmac
import secrets

PREFIX = "whsec_"


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(24)).decode()


def headers(secret: str, message: str, now_s: int, body: bytes) -> dict[str, str]:
    """The headers by which a receiver that has the secret knows the sender and the time."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = b"%s.%d.%s" % (message.encode(), now_s, body)
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": message,
        "webhook-timestamp": str(now_s),
        "webhook-signature": f"v1,{signature}",
    }
