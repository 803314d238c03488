"""TLS in front of a Unix socket: what a Redis with TLS looks like to its clients."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

from certificates import Pair


@contextlib.contextmanager
def tls_proxy(path: str, pair: Pair) -> Iterator[int]:
    """Yields the port on which the socket at `path` can be reached through TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, context, path), daemon=True).start()
        yield listener.getsockname()[1]
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, context: ssl.SSLContext, path: str) -> None:
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(plain, context, path), daemon=True).start()


def _serve(plain: socket.socket, context: ssl.SSLContext, path: str) -> None:
    """One direction for each thread; TLS sockets take one reader and one writer at a time."""
    with contextlib.suppress(OSError, ssl.SSLError), socket.socket(socket.AF_UNIX) as target:
        target.connect(path)
        with context.wrap_socket(plain, server_side=True) as client:
            back = threading.Thread(target=_copy, args=(target, client), daemon=True)
            back.start()
            _copy(client, target)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := source.recv(65_536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
