"""`GET /models/{model}?customized=true`: a handler's own description of its model."""

import contextlib
import json
import time
import uuid

from gateway.asgi import Document
from marq import keys
from marq.errors import ServiceError, ServiceUnavailable
from marq.forms import FORM
from marq.queue.entries import EntryFields, EntryHead
from marq.queue.replies.entries import decode_replies
from marq.registry.models import Registry
from marq.registry.spec import ModelSpec


def ask_handler(registry: Registry, spec: ModelSpec) -> Document:
    """Sends the handler a request with the header `describe` and returns its answer.

    The request goes to the front lane as a retry, because a retried request gets a batch of its own.
    An empty form becomes an empty row.
    """
    if not (spec.may_rest or any(replica.is_ready for replica in registry.replicas(spec))):
        raise ServiceUnavailable(
            f'Model "{spec.name}" has no worker to serve describe request. '
            "Please use scale workers API to add workers."
        )
    client, request_id = registry.redis, str(uuid.uuid4())
    stream, deadline = keys.replies(request_id), time.time() + spec.response_timeout_s
    head = EntryHead(
        type=FORM.encode(), headers=b'{"describe":"True"}', deadline=b"%d" % (1000 * deadline),
        attempts=b"1", reply=stream.encode(),
    )  # fmt: skip
    lane = keys.lane(spec.name, spec.version, keys.FRONT)
    client.execute_command("XADD", lane, "*", "id", request_id, *EntryFields(b"", head).flat())
    while not (found := client.xread({stream: "0"}, block=1000)) and time.time() < deadline:
        pass
    client.delete(stream)
    return _metadata(found[0][1][0][1] if found else {})


def _metadata(fields: dict[bytes, bytes]) -> Document:
    replies = decode_replies([part for pair in fields.items() for part in pair])
    if not replies or replies[0].status >= 400:
        reason = replies[0].body.decode(errors="replace") if replies else "no replica answered in time"
        raise ServiceError(f"Failed to get customized model matadata.\n{reason}")
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(replies[0].body)
        return value if isinstance(value, dict) else {}
    return {}
