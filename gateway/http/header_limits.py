"""Limits of the parts of a request around its body: URL, headers, trailers, chunk extensions."""

from dataclasses import dataclass, field

from gateway.asgi import Headers
from gateway.http.closing import Leaving
from gateway.http.unread import UnreadAnswers
from marq.errors import HeadersTooLarge, ServiceError, UrlTooLong
from marq.settings.fields import Settings

MOST_PIPELINED = 100  # requests of one connection that wait for the answer to another
PER_HEADER = len(b": \r\n")


@dataclass(frozen=True)
class Limits:
    """The limits of each request and of all connections, and what is kept of these. Sizes are bytes."""

    url: int = 16_384
    headers: int = 65_536  # names and values of all headers together
    header_count: int = 256
    connections: int = 10_000
    unread: UnreadAnswers = field(default_factory=lambda: UnreadAnswers(2**30))
    leaving: Leaving = field(default_factory=Leaving)

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """The limits that a server was configured with."""
        return cls(
            settings.max_url_length, settings.max_header_size, settings.max_header_count,
            settings.max_connections, UnreadAnswers(settings.max_buffered_bytes),
            Leaving(refuses=settings.gateway_workers == 1),
        )  # fmt: skip

    def fault(self, url: bytes, headers: Headers) -> ServiceError | None:
        """Why a request whose headers are complete is refused; None if it is not."""
        if len(url) > self.url:
            return self.url_too_long()
        if len(headers) > self.header_count:
            return self.headers_too_large()
        size = sum(len(name) + len(value) + PER_HEADER for name, value in headers)
        return self.headers_too_large() if size > self.headers else None

    def fault_so_far(self, url: bytes, headers: int, received: int) -> ServiceError | None:
        """The same while the headers are incomplete; `received`: bytes of URL and headers so far."""
        if len(url) > self.url:
            return self.url_too_long()
        if headers > self.header_count or received > self.url + self.headers:
            return self.headers_too_large()
        return None

    def url_too_long(self) -> ServiceError:
        return UrlTooLong(f"The URL is longer than max_url_length allows: {self.url} bytes.")

    def headers_too_large(self) -> ServiceError:
        return HeadersTooLarge(
            f"The request's headers exceed {self.header_count} headers (max_header_count) "
            f"or {self.headers} bytes (max_header_size)."
        )
