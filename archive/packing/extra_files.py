"""The tar file of source files that a model-config.yaml names: the server unpacks it beside the handler."""

import tarfile
from pathlib import Path

import yaml

from archive.errors import PackagingError


def extra_files(config_file: Path) -> str:
    """The value of `system.extraFiles`; empty if the file does not have it, or is not YAML."""
    try:
        config = yaml.safe_load(config_file.read_bytes())
    except (OSError, yaml.YAMLError):
        return ""
    system = config.get("system") if isinstance(config, dict) else None
    name = system.get("extraFiles") if isinstance(system, dict) else None
    return name if isinstance(name, str) else ""


def unpack(tar_file: Path, folder: Path) -> None:
    """Unpacks the tar file as the server will. Raises PackagingError."""
    try:
        with tarfile.open(tar_file) as tar:
            members = tar.getmembers()
            if link := next((each.name for each in members if not (each.isreg() or each.isdir())), None):
                raise PackagingError(f"{tar_file.name} holds {link}, which is neither a file nor a directory")
            tar.extractall(folder, members, filter="data")
    except (OSError, tarfile.TarError) as error:
        raise PackagingError(f"{tar_file.name} cannot be unpacked: {error}") from error
