"""`torch-model-archiver`: from options to an archive."""

import logging
import sys

from archive.packing.writer import write
from model_archiver.arg_parser import ArgParser
from model_archiver.model_archiver_config import ModelArchiverConfig
from model_archiver.model_archiver_error import ModelArchiverError
from model_archiver.model_packaging_utils import ModelExportUtils, errors_told

log = logging.getLogger(__name__)


def generate_model_archive(config: ModelArchiverConfig | None = None) -> None:
    """Writes the archive of `config`, or of the command line if there is none.

    Raises ModelArchiverError, or FileNotFoundError for a file to pack.
    """
    if config is None:
        logging.basicConfig(stream=sys.stderr, format="%(levelname)s - %(message)s")
        config = ModelArchiverConfig.from_args(ArgParser.export_model_args_parser().parse_args())
    package_model(config, ModelExportUtils.generate_manifest_json(config))


def main() -> None:
    """The console script `torch-model-archiver`; ends with 1 if the archive cannot be written."""
    try:
        generate_model_archive()
    except FileNotFoundError as error:
        log.error("%s", error)
        sys.exit(1)
    except ModelArchiverError:  # is logged where it was raised
        sys.exit(1)


def package_model(config: object, manifest: str) -> None:
    """Writes the archive with the manifest given. Raises as `generate_model_archive` does.

    `config` has the options as attributes: a ModelArchiverConfig, or another tool's namespace.
    """
    with errors_told():
        write(ModelArchiverConfig.of(config).spec(), manifest.encode())
