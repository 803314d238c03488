"""Optional packages, imported where they are used."""

import importlib


def require(module, package):
    """The module, or an ImportError that names the package to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ImportError(
            f"this handler needs the package {package}: pip install {package}", name=module
        ) from error
