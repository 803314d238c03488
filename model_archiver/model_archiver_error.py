"""The error that the archiver raises for wrong input."""


class ModelArchiverError(Exception):
    """Raised when an archive cannot be written; the text is what to tell the user."""
