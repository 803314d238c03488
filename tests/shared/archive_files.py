"""Bytes of small archives. `files` are names and contents; None makes a directory."""

import io
import json
import stat
import tarfile
import zipfile

MANIFEST = "MAR-INF/MANIFEST.json"


def manifest(**model) -> bytes:
    model = {"modelName": "m", "modelVersion": "1.0", "handler": "h.py", **model}
    return json.dumps({"runtime": "python", "model": model}).encode()


def zip_link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def zip_bytes(files, compression=zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files:
            if content is None:
                archive.mkdir(name)
            else:
                archive.writestr(name, content)
    return buffer.getvalue()


def tar_member(name: str, type_: bytes = tarfile.REGTYPE, target: str = "", content: bytes = b""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = type_, target, len(content)
    return info, content


def tar_bytes(members, format_=tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=format_) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
