"""Modules of an archive whose names hide modules that its replica needs."""

import logging
import sys
from collections.abc import Iterable
from importlib.machinery import all_suffixes

from archive.errors import InvalidArchive

log = logging.getLogger(__name__)

# The packages of marq that handlers import. Of others, and of `base_handler`, the archive may have its own.
RESERVED = frozenset({"marq", "ts"})

_SUFFIXES = tuple(sorted(all_suffixes(), key=len, reverse=True))


def check_modules(archive: str, names: Iterable[str]) -> None:
    """Raises InvalidArchive if a member is a module that marq's own would hide: `import` finds one of them.

    A module that hides one of Python's is allowed, as by TorchServe, and logged. Directories without
    Python files are not modules.
    """
    modules = [(name, module) for name in names if (module := _module(name))]
    for name, module in modules:
        top = module.partition(".")[0]
        if top in RESERVED:
            raise InvalidArchive(
                f"{name} in {archive} has the name of marq's own package {top!r}, which the replica needs.",
                f"Rename {_renamed(name, top)} and the imports of it, and pack the archive again.",
            )
    for name, module in modules:
        if module in sys.stdlib_module_names:
            log.warning("%s in %s hides Python's own module %r; rename it", name, archive, module)


def _module(name: str) -> str:
    """The dotted name under which a member can be imported, empty if it cannot."""
    suffix = next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), None)
    parts = name.removesuffix(suffix).split("/") if suffix else []
    if parts[1:] and parts[-1] == "__init__":
        del parts[-1]
    return ".".join(parts) if all(map(str.isidentifier, parts)) else ""


def _renamed(name: str, top: str) -> str:
    return f"the directory {top}/" if "/" in name else name
