"""How payload files are written and protected, wherever they lie."""

import os
import re
import stat
from pathlib import Path

from marq.errors import ServiceUnavailable

NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
PLAIN = re.compile(rb"[0-9A-Za-z-]{1,64}")  # a request id that can be part of a file's name


class PayloadLost(ServiceUnavailable):
    """Raised when the file of a body or an answer is not on this host, or not any more."""


def is_own(directory: Path) -> bool:
    """Whether it is a directory, not a link to one, that only this user can enter."""
    found = directory.lstat()
    is_private = found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077
    return stat.S_ISDIR(found.st_mode) and is_private


def write_all(file: int, data: bytes) -> None:
    """Raises OSError where the file system is full."""
    if (written := os.write(file, data)) < len(data):
        view = memoryview(data)
        while written < len(data):
            written += os.write(file, view[written:])


def load(path: str) -> bytearray:
    """The bytes of a file, copied once. Raises PayloadLost."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - the cheapest way
            content = bytearray(os.fstat(file.fileno()).st_size)
            view, filled = memoryview(content), 0
            while filled < len(content) and (count := file.readinto(view[filled:])):
                filled += count
    except OSError as error:
        raise lost(error) from None
    return content


def lost(error: Exception) -> PayloadLost:
    """The error for a file that cannot be read."""
    reason = "it is not on this host, or was removed" if isinstance(error, FileNotFoundError) else str(error)
    return PayloadLost(f"The file of a body cannot be read: {reason}. Send the request again.")
