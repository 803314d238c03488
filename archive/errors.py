"""The errors that this package raises on purpose."""


class ArchiveError(Exception):
    """The base of all of them. `str(error)` may be shown to clients.

    Where TorchServe has a fixed text, the message is exactly that text; `reason` then says in a sentence what
    was wrong and what would be right. It is empty where the message says so itself.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class InvalidArchive(ArchiveError):
    """Raised when an archive, its manifest or its model-config.yaml cannot be read."""


class UnsafeArchive(InvalidArchive):
    """Raised when an archive reaches outside its own directory or exceeds a limit."""


class ArchiveNotFound(ArchiveError):
    """Raised when a URL does not lead to an archive that may be loaded."""


class ArchiveExists(ArchiveError):
    """Raised when a download would replace a file of the model store."""


class DownloadFailed(ArchiveError):
    """Raised when a remote archive could not be fetched; nothing of it is left in the model store."""


class PackagingError(ArchiveError):
    """Raised when an archive cannot be written; nothing of it is left in the export directory."""


class SourceMissing(PackagingError):
    """Raised when a file that should go into an archive does not exist."""
