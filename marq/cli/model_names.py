"""The names of the registered models: for lists, and for shell completion."""

from marq.cli import http
from marq.errors import MarqError

PAGE = 100


def listed(server: http.Api) -> list[str]:
    """The names of all models, page by page."""
    found: list[str] = []
    first: str | None = "0"
    while first is not None:
        page = server.ask(
            "GET", http.path("models"), "models", params={"limit": PAGE, "next_page_token": first}
        )
        found += [model["modelName"] for model in page["models"]]
        first = page.get("nextPageToken") if page["models"] else None
    return found


def names() -> list[str]:
    """The models of the server on this host. Raises MarqError."""
    return listed(http.connect(None, None, None, management=True))


def complete(incomplete: str) -> list[str]:
    """The models of the server on this host that begin like this; none if the server does not answer."""
    try:
        return [name for name in names() if name.startswith(incomplete)]
    except MarqError:
        return []
