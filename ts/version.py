"""The TorchServe release whose handler surface this package offers."""

__version__ = "0.12.0"
