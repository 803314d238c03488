"""The frames in which TorchServe's server and its workers talk, for tools and tests that read or write them.

marq itself sends nothing of this. Numbers are big-endian; -1 in the place of a length ends a list.
"""

import io
import json
import logging
import os
import struct
import sys

from ts.handler_utils.utils import send_intermediate_predict_response as _send
from ts.utils.util import deprecated

logger = logging.getLogger(__name__)

LOAD_MSG = b"L"
PREDICT_MSG = b"I"
END_OF_LIST = -1


@deprecated(version="1.0.0", replacement="ts.handler_utils.utils.send_intermediate_predict_response")
def send_intermediate_predict_response(ret, req_id_map, message, code, context=None):
    _send(ret, req_id_map, message, code, context)


def create_load_model_response(code, message):
    """The answer to a load message."""
    return bytearray(_int(code) + _text(message) + _int(END_OF_LIST))


def create_predict_response(ret, req_id_map, message, code, context=None, ts_stream_next=False):
    """The answer to a batch: one element of `ret` for each request id; all of them failed if `ret` is None.

    Status and headers of each come from `context`. An element that has no encoding fails all of them.
    """
    frame = bytearray(_int(code) + _text(message))
    for index, request_id in req_id_map.items():
        try:
            body = b"error" if ret is None else encode_body(ret[index])
        except TypeError:
            logger.warning("an answer cannot be serialized", exc_info=True)
            return create_predict_response(None, req_id_map, "Unsupported model output data type.", 503)
        frame += _text(request_id) + _head(index, code, context, ts_stream_next) + _sized(body)
    return frame + _int(END_OF_LIST)


def encode_response_headers(resp_hdr_map):
    """The number of headers, then each name and value."""
    pairs = b"".join(_text(name) + _text(value) for name, value in resp_hdr_map.items())
    return bytearray(_int(len(resp_hdr_map)) + pairs)


def encode_body(value):
    """The bytes of an element of a handler's list. Raises TypeError for types that have no bytes."""
    if isinstance(value, bytes | bytearray):
        return value
    if isinstance(value, str):
        return value.encode()
    torch = sys.modules.get("torch")  # without it there are no tensors
    if torch is not None and isinstance(value, torch.Tensor):
        file = io.BytesIO()
        torch.save(value, file)
        return file.getvalue()
    return json.dumps(value, indent=2).encode()


def retrieve_msg(conn):
    """The next message of a socket: `(b"L", model)` or `(b"I", requests)`.

    The end of the connection ends the process with 0, as that of a worker. Raises ValueError for other bytes.
    """
    command = _read(conn, 1)
    if command == LOAD_MSG:
        return command, _read_model(conn)
    if command == PREDICT_MSG:
        return command, list(iter(lambda: _read_request(conn), None))
    raise ValueError(f"Invalid command: {command}")


def _head(index, code, context, ts_stream_next):
    """Content type, status, phrase and headers of one answer."""
    if context is None:
        return _text("") + _int(code) + _text("") + encode_response_headers({})
    if ts_stream_next:
        context.set_response_header(index, "ts_stream_next", "true")
    elif context.get_response_headers(index).get("ts_stream_next") == "true":
        context.set_response_header(index, "ts_stream_next", "false")
    status, phrase = context.get_response_status(index)
    content_type = context.get_response_content_type(index)
    headers = encode_response_headers(context.get_response_headers(index))
    return _text(content_type) + _int(200 if status is None else status) + _text(phrase) + headers


def _int(value):
    return struct.pack("!i", value)


def _sized(data):
    return _int(len(data)) + bytes(data)


def _text(value):
    return _sized((value or "").encode())


def _read(conn, length):
    data = bytearray()
    while len(data) < length:
        piece = conn.recv(length - len(data))
        if not piece:
            logger.info("the server has closed the connection")
            sys.exit(0)
        data += piece
    return data


def _read_int(conn):
    return struct.unpack("!i", _read(conn, 4))[0]


def _read_sized(conn):
    """None at the end of a list."""
    length = _read_int(conn)
    return None if length == END_OF_LIST else _read(conn, length)


def _read_model(conn):
    model = {"modelName": _read_sized(conn), "modelPath": _read_sized(conn), "batchSize": _read_int(conn)}
    model["handler"] = _read_sized(conn)
    gpu = _read_int(conn)
    if gpu >= 0:
        model["gpu"] = gpu
    model["envelope"] = _read_sized(conn)
    model["limitMaxImagePixels"] = _read(conn, 1) != b"\0"
    return model


def _read_request(conn):
    request_id = _read_sized(conn)
    if request_id is None:
        return None
    headers = list(iter(lambda: _read_header(conn), None))
    return {
        "requestId": request_id,
        "headers": headers,
        "parameters": list(iter(lambda: _read_parameter(conn), None)),
    }


def _read_header(conn):
    name = _read_sized(conn)
    return None if name is None else {"name": name, "value": _read_sized(conn)}


def _read_parameter(conn):
    name = _read_sized(conn)
    if name is None:
        return None
    content_type = _read_sized(conn).decode()
    value = _decoded(_read_sized(conn), content_type)
    return {"name": name.decode(), "contentType": content_type, "value": value}


def _decoded(value, content_type):
    """JSON and text as such, unless that is switched off or fails; everything else as bytearray."""
    if os.environ.get("TS_DECODE_INPUT_REQUEST", "true") != "true":
        return value
    try:
        if content_type == "application/json":
            return json.loads(value)
        return value.decode() if content_type.startswith("text") else value
    except ValueError:
        logger.warning("a value is no %s: the handler gets its bytes", content_type, exc_info=True)
        return value
