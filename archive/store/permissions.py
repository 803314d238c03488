"""From where archives may be downloaded: places that the operator has named, and public hosts."""

import ipaddress
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from archive.errors import ArchiveNotFound

_WEB = ("http", "https")
# Networks whose addresses contain an IPv4 address that a gateway would go on to.
_WRAPPING = [
    ipaddress.ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")
]


class Permissions:
    """`allowed_urls` are regular expressions of whole URLs, in any case; raises ValueError for a bad one.

    With `public`, http(s) URLs of public hosts are allowed, too: not those of private, loopback or link-local
    addresses. With `everything` all URLs are.
    """

    def __init__(
        self, allowed_urls: Sequence[str] = (), *, public: bool = False, everything: bool = False
    ) -> None:
        self._patterns = [_compiled(pattern) for pattern in allowed_urls if pattern.strip()]
        self._public, self._everything = public, everything

    def names(self, url: str) -> bool:
        """Whether the operator has allowed this very URL."""
        return self._everything or any(pattern.fullmatch(url) for pattern in self._patterns)

    def check(self, url: str) -> None:
        """Raises ArchiveNotFound, whose reason says how to allow the URL."""
        if self.names(url):
            return
        if not (self._public and urlsplit(url).scheme.lower() in _WEB):
            raise _refused(url)
        for address in _addresses(url):
            self.check_address(url, address)

    def check_address(self, url: str, address: str) -> None:
        """Raises ArchiveNotFound if the host of the URL turns out to have an address that is not public."""
        if not self.names(url) and not _is_public(address):
            raise _refused(url, f"{urlsplit(url).hostname} has the address {address}, which is not public. ")


def how_to_allow(url: str) -> str:
    """The line of config.properties that allows this URL and others like it."""
    parts = urlsplit(url)
    folder = url.partition("?")[0] if parts.scheme == "file" else f"{parts.scheme}://{parts.netloc}/.*"
    return f"To allow it, add this line to config.properties: allowed_urls={folder}"


def how_to_allow_folder(folder: Path) -> str:
    return how_to_allow(f"file://{folder}")


def _refused(url: str, why: str = "") -> ArchiveNotFound:
    return ArchiveNotFound(f"Given URL {url} does not match any allowed URL(s)", why + how_to_allow(url))


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern.strip(), re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"allowed_urls: {pattern!r} is not a regular expression: {error}") from error


def _addresses(url: str) -> list[str]:
    """All addresses of the URL's host; none where it cannot be found, which the download then reports."""
    try:
        parts = urlsplit(url)
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        return []
    return [str(each[4][0]) for each in found]


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            address = address.ipv4_mapped
        elif any(address in network for network in _WRAPPING):
            return False
    return address.is_global and not address.is_multicast
