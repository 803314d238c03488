"""Bodies of requests: each is bounded, and so are all together that a gateway is receiving.

They are read whole into memory, or large ones into a file while they arrive.
"""

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope

from marq.errors import BadRequest, ClientGone, QueueFull, RequestTooLarge
from marq.payloads.folder import Upload
from marq.settings.fields import Settings

LIMIT = "max_request_size"  # the setting
Kind = TypeVar("Kind", bound=BaseModel)


class Uploads:
    """The bodies that are incomplete. `most`: bytes of all; `limit`: bytes of one, the setting `name`."""

    def __init__(self, most: int, limit: int, name: str = LIMIT) -> None:
        self._most, self._limit, self._name = most, limit, name
        self._held = 0

    @classmethod
    def of_management(cls, settings: Settings) -> "Uploads":
        """Those of a part of the management API."""
        limit = settings.max_management_request_size
        return cls(settings.max_buffered_bytes, limit, "max_management_request_size")

    async def read_into(
        self, scope: Scope, receive: Receive, threshold: int, begin: Callable[[int], Upload]
    ) -> bytes | Upload:
        """The body, in a file that `begin` makes if it is larger than the threshold. Raises as `read` does.

        `begin` takes the size as far as it is known, and may raise ServiceError.
        """
        size = self._announced(scope)
        upload = begin(size) if size > threshold else None
        body, more = await _part(receive)
        self._held += len(body)
        try:
            while more and not upload:
                if len(body) > threshold:
                    upload = begin(len(body))
                    break
                part, more = await _part(receive)
                body += part
                self._held += len(part)
                self._check_all(len(body))
        finally:
            self._held -= len(body)
        if not upload:
            self._check(len(body))
            return body
        upload.write(body)
        while more:
            part, more = await _part(receive)
            self._check(upload.size + len(part))
            upload.write(part)
        self._check(upload.size)
        upload.close()
        return upload

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body.

        Raises RequestTooLarge, before reading if Content-Length is larger; ClientGone; and QueueFull while
        the bodies of other requests take all the memory.
        """
        self._announced(scope)
        body, more = await _part(receive)
        if not more:
            self._check(len(body))
            return body
        parts, size = [body], len(body)
        self._held += size
        try:
            while more:
                part, more = await _part(receive)
                size += len(part)
                self._held += len(part)
                self._check_all(size)
                parts.append(part)
        finally:
            self._held -= size
        return b"".join(parts)

    async def read_json(self, scope: Scope, receive: Receive, kind: type[Kind]) -> Kind:
        """The body, which is JSON of this kind. Raises BadRequest, and as `read` does."""
        body = await self.read(scope, receive)
        try:
            return kind.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "body"
            reason = first["msg"].removeprefix("Value error, ")
            raise BadRequest(f"Parameter {where}: {reason}", 422) from None

    def _announced(self, scope: Scope) -> int:
        """The Content-Length; 0 without one. Raises RequestTooLarge."""
        size = 0
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit():
                size = int(value)
                self._check(size)
        return size

    def _check_all(self, size: int) -> None:
        """Raises QueueFull, too."""
        self._check(size)
        if self._held > self._most:
            raise QueueFull(f"More than {self._most} bytes of bodies are arriving (max_buffered_bytes).")

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise too_large(size, self._limit, self._name)


def too_large(size: int, limit: int, name: str = LIMIT) -> RequestTooLarge:
    return RequestTooLarge(f"The request body has {size} bytes or more; {name} allows {limit}.")


async def _part(receive: Receive) -> tuple[bytes, bool]:
    """(a part of the body, whether more follow)."""
    message = await receive()
    if message["type"] == "http.disconnect":  # the parts so far are not the whole request
        raise ClientGone
    return message.get("body", b""), message.get("more_body", False)
