"""The names that TorchServe handlers import, offered by marq."""

from .version import __version__

__all__ = ["__version__"]
