"""The command line of `torch-workflow-archiver`."""

import argparse
from pathlib import Path


class ArgParser:
    """A namespace."""

    @staticmethod
    def workflow_archiver_args_parser() -> argparse.ArgumentParser:
        """Wrong usage ends the process with 2."""
        parser = argparse.ArgumentParser(
            prog="torch-workflow-archiver", description="Packs a workflow and its handler into an archive."
        )
        parser.add_argument(
            "--workflow-name", required=True, help="name of the workflow, and of the archive's file"
        )
        parser.add_argument("--spec-file", required=True, help="YAML file with the workflow's models and DAG")
        parser.add_argument("--handler", help="Python file with the functions of the DAG (needed)")
        parser.add_argument(
            "--export-path",
            default=str(Path.cwd()),
            help="directory for the archive, which must exist (default: the current one)",
        )
        parser.add_argument("-f", "--force", action="store_true", help="replace an archive that exists")
        parser.add_argument("--extra-files", help="more files, separated by commas")
        return parser
