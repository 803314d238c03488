"""Shell completion of the names of models."""

from marq.cli import http
from marq.errors import MarqError


def names() -> list[str]:
    """The models of the server on this host. Raises MarqError."""
    return http.connect(None, None, None, management=True).models()


def complete(incomplete: str) -> list[str]:
    """The models of the server on this host that begin like this; none if the server does not answer."""
    try:
        return [name for name in names() if name.startswith(incomplete)]
    except MarqError:
        return []
