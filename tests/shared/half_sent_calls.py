"""gRPC calls whose message does not end: a client of HTTP/2 that sends as much as it is allowed to."""

import contextlib
import select
import socket
import struct
import time

METHOD = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
ACK, END_HEADERS, INITIAL_WINDOW = 1, 4, 4
LARGEST_FRAME = 16_384


class HalfSentCalls:
    """So many calls over one connection, each with a message of `size` bytes of which the last is missing."""

    def __init__(self, port: int, calls: int, size: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._received = b""
        self._initial = self._window = 65_535
        self._windows = {2 * number + 1: 0 for number in range(calls)}  # beyond the initial one
        self._left = dict.fromkeys(self._windows, size - 1)
        self.sent = 0
        self._socket.sendall(PREFACE + _frame(SETTINGS, 0, 0, b""))
        for call in self._windows:
            self._socket.sendall(_frame(HEADERS, END_HEADERS, call, _head()))
            self._send(call, b"\0" + struct.pack(">I", size))

    def send_for(self, seconds: float) -> None:
        """Sends what the server allows; returns after this time, or when the server ends the connection."""
        end = time.monotonic() + seconds
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < end:
                moved = [self._send_some(call) for call in list(self._left)]
                readable, _, _ = select.select([self._socket], [], [], 0 if any(moved) else 0.1)
                if readable:
                    self._receive()

    def close(self) -> None:
        self._socket.close()

    def _send_some(self, call: int) -> bool:
        room = min(self._left[call], LARGEST_FRAME, self._window, self._initial + self._windows[call])
        if room > 0:
            self._left[call] -= room
            self._send(call, b"x" * room)
        return room > 0

    def _send(self, call: int, data: bytes) -> None:
        self._socket.sendall(_frame(DATA, 0, call, data))
        self._window -= len(data)
        self._windows[call] -= len(data)
        self.sent += len(data)

    def _receive(self) -> None:
        data = self._socket.recv(65_536)
        if not data:
            raise ConnectionResetError
        self._received += data
        while len(self._received) >= 9:
            size = int.from_bytes(self._received[:3], "big")
            kind, flags = self._received[3:5]
            call, content = int.from_bytes(self._received[5:9], "big"), self._received[9 : 9 + size]
            if len(content) < size:
                return
            self._received = self._received[9 + size :]
            self._take(kind, flags, call, content)

    def _take(self, kind: int, flags: int, call: int, content: bytes) -> None:
        if kind == WINDOW_UPDATE and not call:
            self._window += int.from_bytes(content, "big")
        elif kind == WINDOW_UPDATE:
            self._windows[call] += int.from_bytes(content, "big")
        elif kind == SETTINGS and not flags & ACK:
            for at in range(0, len(content), 6):
                name, value = struct.unpack(">HI", content[at : at + 6])
                self._initial = value if name == INITIAL_WINDOW else self._initial
            self._socket.sendall(_frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self._socket.sendall(_frame(PING, ACK, 0, content))
        elif kind not in (SETTINGS, PING):  # the end of a call
            self._left.pop(call, None)


def _frame(kind: int, flags: int, call: int, content: bytes) -> bytes:
    return struct.pack(">I", len(content))[1:] + bytes([kind, flags]) + struct.pack(">I", call) + content


def _head() -> bytes:
    """Headers as literals that are not compressed."""
    headers = {
        ":method": "POST", ":scheme": "http", ":path": METHOD, ":authority": "x",
        "content-type": "application/grpc", "te": "trailers",
    }  # fmt: skip
    return b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in headers.items()
    )
