"""The options of one archive."""

import argparse
from dataclasses import dataclass, field, fields
from pathlib import Path

from archive.packing.writer import ArchiveSpec


@dataclass
class ModelArchiverConfig:
    """The options of `torch-model-archiver`; `extra_files` is a comma-separated list."""

    model_name: str
    handler: str
    version: str
    serialized_file: str | None = None
    model_file: str | None = None
    extra_files: str | None = None
    runtime: str = "python"
    export_path: str = field(default_factory=lambda: str(Path.cwd()))
    archive_format: str = "default"
    force: bool = False
    requirements_file: str | None = None
    config_file: str | None = None

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> "ModelArchiverConfig":
        """The options as `ArgParser.export_model_args_parser` reads them."""
        return cls(**{option.name: getattr(args, option.name) for option in fields(cls)})

    @classmethod
    def of(cls, options: object) -> "ModelArchiverConfig":
        """The options of any object that has them as attributes, as other tools' namespaces do.

        Attributes that are missing have their defaults. Raises AttributeError for the three that have none.
        """
        if isinstance(options, cls):
            return options
        names = (each.name for each in fields(cls))
        given = {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}
        for name in ("model_name", "handler", "version"):
            given.setdefault(name, getattr(options, name))
        if isinstance(given.get("extra_files"), list | tuple):
            given["extra_files"] = ",".join(map(str, given["extra_files"]))
        return cls(**given)

    def spec(self) -> ArchiveSpec:
        """The same for `archive.packing.writer`."""
        return ArchiveSpec(
            model_name=self.model_name,
            handler=self.handler,
            version=self.version,
            serialized_file=self.serialized_file,
            model_file=self.model_file,
            extra_files=tuple((self.extra_files or "").split(",")),
            runtime=self.runtime,
            export_path=Path(self.export_path),
            archive_format=self.archive_format,
            force=self.force,
            requirements_file=self.requirements_file,
            config_file=self.config_file,
        )
