"""The steps of packing that tools call one by one."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from archive.errors import PackagingError, SourceMissing
from archive.packing import writer
from archive.packing.output import check_folder, check_free, check_name
from model_archiver.model_archiver_config import ModelArchiverConfig
from model_archiver.model_archiver_error import ModelArchiverError

log = logging.getLogger(__name__)


@contextmanager
def errors_told() -> Iterator[None]:
    """Raises what this package's callers expect instead of PackagingError."""
    try:
        yield
    except SourceMissing as error:
        raise FileNotFoundError(str(error)) from None
    except PackagingError as error:
        log.error("%s", error)
        raise ModelArchiverError(str(error)) from error.__cause__


class ModelExportUtils:
    """A namespace. Everything here raises ModelArchiverError."""

    @staticmethod
    def get_archive_export_path(
        export_file_path: str, model_name: str, archive_format: str = "default"
    ) -> str:
        """Where the archive will be."""
        return str(Path(export_file_path) / writer.file_name(model_name, archive_format))

    @staticmethod
    def check_mar_already_exists(
        model_name: str, export_file_path: str | None, overwrite: bool, archive_format: str = "default"
    ) -> str:
        """The export directory (the current one if there is none), if the archive may be written there."""
        folder = str(Path.cwd()) if export_file_path is None else export_file_path
        with errors_told():
            check_free("model", Path(folder) / writer.file_name(model_name, archive_format), overwrite)
        return folder

    @staticmethod
    def check_model_name_regex_or_exit(model_name: str) -> None:
        """Checks the name's characters."""
        with errors_told():
            check_name("model", model_name)

    @staticmethod
    def validate_inputs(model_name: str, export_path: str) -> None:
        """Checks the name's characters, and that the export directory is one or can be made."""
        with errors_told():
            check_name("model", model_name)
            check_folder(Path(export_path))

    @staticmethod
    def generate_manifest_json(config: object) -> str:
        """The text of the manifest; `config` as for `package_model`."""
        with errors_told():
            return writer.manifest_json(ModelArchiverConfig.of(config).spec()).decode()

    @staticmethod
    def archive(
        export_file: str, model_name: str, model_path: str, manifest: str, archive_format: str = "default"
    ) -> None:
        """Packs what is in `model_path` into the directory `export_file`; an archive there is replaced."""
        target = Path(export_file) / writer.file_name(model_name, archive_format)
        with errors_told():
            writer.write_folder(Path(model_path), target, model_name, archive_format, manifest.encode())

    @staticmethod
    def find_unique(files: list[str], suffix: str) -> str | None:
        """The one name that ends so, None if there is none. More than one is an error."""
        found = [name for name in files if name.endswith(suffix)]
        if len(found) > 1:
            raise ModelArchiverError(
                f"model-archiver expects only one {suffix} file in the folder. "
                f"Found {len(found)} files {found} in model-path."
            )
        return found[0] if found else None
