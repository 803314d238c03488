"""`/v1/files`, as OpenAI's clients use it: the files of batches."""

import asyncio
import secrets
import shutil
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.types import Message

from gateway.asgi import Document
from gateway.openai.files import BATCH, LONGEST_S, Files
from gateway.openai.lines import MOST_BYTES
from gateway.openai.records import Records
from gateway.uploads import too_large
from marq.errors import BadRequest, ClientGone, Conflict

ROOM_FOR_FIELDS = 65_536  # bytes of a form beside its file
LEAST_S = 3600
Limit = Annotated[int, Query(ge=1, le=10_000, description="How many at most.")]
Order = Annotated[Literal["asc", "desc"], Query(description="By the time of creation.")]
Name = Annotated[str | None, Query(description="Only files that follow this id.")]


def router(files: Files, records: Records) -> APIRouter:
    """The routes of files."""
    api = APIRouter(tags=["batches"])

    @api.post("/v1/files", responses={507: {"description": "The files of batches take all their room."}})
    async def upload(request: Request) -> Document:
        """Stores a file of requests: multipart/form-data with `file` and `purpose` (`batch`)."""
        form = await _form(request)
        try:
            file, keep_s = _file_of(form)
            written = files.new(file_id := f"file-{secrets.token_hex(16)}")
            try:
                await asyncio.to_thread(shutil.copyfileobj, file.file, written.file)
                return await files.add(written, file_id, (file.filename or "")[:255], BATCH, keep_s)
            except BaseException:
                written.discard()
                raise
        finally:
            await form.close()

    @api.get("/v1/files")
    async def show(
        purpose: str = "", limit: Limit = 10_000, order: Order = "desc", after: Name = None
    ) -> Document:
        """The files, the newest first."""
        found = [record for record in await files.all() if purpose in ("", record["purpose"])]
        return page(found if order == "desc" else found[::-1], limit, after)

    @api.get("/v1/files/{file_id}")
    async def describe(file_id: str) -> Document:
        """One file."""
        return await files.get(file_id)

    @api.get("/v1/files/{file_id}/content", response_class=FileResponse)
    async def content(file_id: str) -> Response:
        """The bytes of a file."""
        return FileResponse(await files.found(file_id), media_type="application/octet-stream")

    @api.delete("/v1/files/{file_id}")
    async def delete(file_id: str) -> Document:
        """Removes a file. 409 while a batch reads it."""
        for batch_id in await records.open():
            if (await records.get(batch_id))["input_file_id"] == file_id:
                raise Conflict(f"File {file_id} is read by batch {batch_id}; cancel the batch first.")
        await files.delete(file_id)
        return {"id": file_id, "object": "file", "deleted": True}

    return api


def page(found: list[Document], limit: int, after: str | None) -> Document:
    """A list as OpenAI's clients read it."""
    ids = [str(record["id"]) for record in found]
    if after:
        if after not in ids:
            raise BadRequest(f"Parameter after must be an id of the list, not {after!r:.100}")
        found = found[ids.index(after) + 1 :]
    some = found[:limit]
    ends = {"first_id": some[0]["id"], "last_id": some[-1]["id"]} if some else {}
    return {"object": "list", "data": some, "has_more": len(found) > limit, **ends}


async def _form(request: Request) -> FormData:
    """The form, its file on the disk. Raises BadRequest and RequestTooLarge, while it arrives."""
    most, size = MOST_BYTES + ROOM_FOR_FIELDS, 0
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most:
        raise too_large(int(announced), MOST_BYTES, "a file of a batch")

    async def receive() -> Message:
        nonlocal size
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        size += len(message.get("body", b""))
        if size > most:
            raise too_large(size, MOST_BYTES, "a file of a batch")
        return message

    try:
        return await Request(request.scope, receive).form(max_files=1, max_fields=10)
    except HTTPException as error:
        raise BadRequest(f"The form cannot be read: {error.detail}") from None


def _file_of(form: FormData) -> tuple[UploadFile, float]:
    """(the file, how long it is kept). Raises BadRequest."""
    file, purpose = form.get("file"), form.get("purpose")
    if not isinstance(file, UploadFile):
        raise BadRequest("The body must be multipart/form-data with a file in the field `file`.")
    if purpose != BATCH:
        raise BadRequest(f"purpose must be {BATCH!r}, not {purpose!r:.100}")
    if (file.size or 0) > MOST_BYTES:
        raise too_large(file.size or 0, MOST_BYTES, "a file of a batch")
    given = str(form.get("expires_after[seconds]", LONGEST_S))
    if not given.isdigit() or not LEAST_S <= int(given) <= LONGEST_S:
        raise BadRequest(f"expires_after[seconds] must be {LEAST_S} to {LONGEST_S}, not {given!r:.100}")
    return file, float(given)
