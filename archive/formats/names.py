"""Which names and link targets of archive members may be created below a directory."""

import posixpath

from archive.errors import InvalidArchive, UnsafeArchive

MAX_PART_BYTES = 255  # what Linux file systems allow
MAX_NAME_BYTES = 1024


def safe_name(raw: str) -> str:
    """The name without its empty and `.` parts; it may be empty, and it never leads out of a directory.

    Raises UnsafeArchive for absolute names and `..`, InvalidArchive for names that no file can have.
    """
    if raw.startswith("/") or ".." in raw.split("/"):
        raise UnsafeArchive(
            f"Detected Zip Slip vulnerability: {raw[:200]}",
            "Names in an archive must be relative and must not contain '..'.",
        )
    if problem := _problem(raw):
        raise InvalidArchive(f"The archive member {raw[:200]!r} cannot be unpacked: its name {problem}.")
    return "/".join(part for part in raw.split("/") if part not in ("", "."))


def _problem(raw: str) -> str:
    if "\0" in raw:
        return "contains a NUL character"
    if "\\" in raw:
        return "contains a backslash; use '/' between directories"
    try:
        encoded = raw.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    if len(encoded) > MAX_NAME_BYTES or any(len(part) > MAX_PART_BYTES for part in encoded.split(b"/")):
        return f"is too long; allowed are {MAX_NAME_BYTES} bytes, {MAX_PART_BYTES} for each part"
    return ""


def check_link(name: str, target: str) -> None:
    """Raises UnsafeArchive if a link at `name` to `target` leads out of the archive by its text alone.

    Links may lead through other links, so the caller that creates it must check its real target.
    """
    path = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
    if not target or "\0" in target or path.startswith("/") or path.split("/")[0] == "..":
        raise leads_out(name, target)


def leads_out(name: str, target: str) -> UnsafeArchive:
    """The error for a link that points outside the archive."""
    return UnsafeArchive(
        f"The archive member {name!r} is a link to {target[:200]!r}, outside the archive; "
        "links must be relative and stay inside."
    )
