"""Archives made from Python."""

from model_archiver import model_packaging
from model_archiver.model_archiver_config import ModelArchiverConfig


class ModelArchiver:
    """The entry point for tools that make archives without a command line."""

    @staticmethod
    def generate_model_archive(config: ModelArchiverConfig) -> None:
        """Writes the archive. Raises ModelArchiverError, or FileNotFoundError for a file to pack."""
        model_packaging.generate_model_archive(config)
