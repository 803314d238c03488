"""Modules of the archive win over marq's own packages of the same name."""

import sys
from importlib.machinery import all_suffixes
from pathlib import Path
from types import ModuleType

OURS = ("archive", "gateway", "workers")  # `marq` and `ts` are refused at registration


def give_way(model_dir: Path) -> None:
    """Lets `import workers` and the like find the archive's module, where it has one.

    marq's code in this process keeps the modules that it has imported, all of them at the start of its files.
    """
    for package in OURS:
        folder = model_dir / package
        is_file = any((model_dir / f"{package}{suffix}").is_file() for suffix in all_suffixes())
        if not is_file and not folder.is_dir():
            continue
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            del sys.modules[name]
        if not is_file and not (folder / "__init__.py").is_file():
            # Python prefers a package with `__init__.py`, ours, wherever it is on the path.
            namespace = ModuleType(package)
            namespace.__path__ = [str(folder)]
            sys.modules[package] = namespace
