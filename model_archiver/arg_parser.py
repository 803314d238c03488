"""The command line of `torch-model-archiver`."""

import argparse
from pathlib import Path

from archive.packing.containers import FORMATS
from model_archiver.manifest_components.manifest import RuntimeType


class ArgParser:
    """A namespace."""

    @staticmethod
    def export_model_args_parser() -> argparse.ArgumentParser:
        """Its options are the fields of ModelArchiverConfig. Wrong usage ends the process with 2."""
        parser = argparse.ArgumentParser(
            prog="torch-model-archiver", description="Packs a model and its handler into a model archive."
        )
        _add_model(parser)
        _add_output(parser)
        return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model-name", required=True, help="name of the model, and of the archive's file")
    parser.add_argument("-v", "--version", required=True, help="version of the model")
    parser.add_argument(
        "--handler", required=True, help="default handler's name, or a Python file; :function may follow"
    )
    parser.add_argument("--serialized-file", help="weights, TorchScript program or other form of the model")
    parser.add_argument("--model-file", help="Python file with the class of an eager model, and no other")
    parser.add_argument(
        "--extra-files", help="more files, directories (their contents) and wildcards, separated by commas"
    )
    parser.add_argument("-r", "--requirements-file", help="packages that the handler needs")
    parser.add_argument("-c", "--config-file", help="model-config.yaml: batch size, timeouts and so on")
    parser.add_argument(
        "--runtime",
        choices=[runtime.value for runtime in RuntimeType],
        default=RuntimeType.PYTHON.value,
        help="what runs the handler (default: %(default)s)",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--export-path",
        default=str(Path.cwd()),
        help="directory for the archive; made if it is missing (default: the current one)",
    )
    parser.add_argument(
        "--archive-format",
        choices=list(FORMATS),
        default="default",
        help="default: NAME.mar; zip-store: the same, not compressed; tgz: NAME.tar.gz; no-archive: a "
        "directory NAME",
    )
    parser.add_argument("-f", "--force", action="store_true", help="replace an archive that exists")
