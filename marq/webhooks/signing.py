"""Signatures of messages, by the library of Standard Webhooks."""

import base64
import secrets
from datetime import UTC, datetime

from standardwebhooks import Webhook

PREFIX = "whsec_"


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(24)).decode()


def headers(secret: str, message: str, now_s: int, body: bytes) -> dict[str, str]:
    """The headers by which a receiver that has the secret knows the sender and the time."""
    return {
        "webhook-id": message,
        "webhook-timestamp": str(now_s),
        "webhook-signature": Webhook(secret).sign(message, datetime.fromtimestamp(now_s, UTC), body.decode()),
    }
