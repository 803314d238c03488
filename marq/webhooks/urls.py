"""The URLs that webhooks may have."""

import re
from urllib.parse import SplitResult, urlsplit

from marq.errors import BadRequest

SETTING = "webhook_allowed_hosts"
LONGEST_URL = 2048
VISIBLE = re.compile(r"[!-~]+")  # a URL is ASCII; a line break would begin another header


def check_url(url: str, name: str = "webhook") -> SplitResult:
    """The parts of a URL that can be sent to, if its host is allowed; `name`: of the option.

    Raises BadRequest.
    """
    if len(url) > LONGEST_URL:
        raise BadRequest(f"{name} must be a URL of up to {LONGEST_URL} characters, not of {len(url)}")
    try:
        parts = urlsplit(url)
        is_usable = (
            VISIBLE.fullmatch(url) is not None
            and parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and "@" not in parts.netloc
        )
    except ValueError:
        is_usable = False
    if not is_usable:
        raise BadRequest(
            f"{name} must be a URL such as https://example.org/path, without a user and with non-ASCII "
            f"characters encoded, not {url!r:.100}"
        )
    return parts
