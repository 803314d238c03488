"""The process that `archive.packing.probe` starts.

`python -m archive.packing.probe_child HANDLER MODEL_DIR REPORT`
"""

import importlib
import importlib.util
import inspect
import json
import sys
import traceback
from pathlib import Path
from types import ModuleType

BUILT_IN = "ts.torch_handler"

_OWN = "Correct the file and pack it again."
_INSTALL = "Install it here, or name it in the file given with --requirements-file."


def main() -> None:
    """Writes the fields of `archive.packing.probe.Finding`, an empty object if the import succeeds."""
    handler, model, report = sys.argv[1:]
    for name in [name for name in sys.modules if name.partition(".")[0] == "archive"]:
        del sys.modules[name]  # the model may have a module of that name
    sys.path.insert(0, model)
    Path(report).write_text(json.dumps(examine(handler, Path(model))))


def examine(handler: str, model: Path) -> dict[str, str]:
    """Imports the handler and looks for its entry point."""
    name, _, function = handler.partition(":")
    name = name.removesuffix(".py")
    try:
        module = importlib.import_module(name if _is_own(name, model) else f"{BUILT_IN}.{name}")
    except ModuleNotFoundError as error:
        return _missing(error.name or str(error), _place(error, model))
    except ImportError as error:
        if isinstance(error.__cause__, ModuleNotFoundError):  # a handler raised it with its own message
            return {"cause": str(error), "advice": _INSTALL, "missing_module": error.__cause__.name or ""}
        return _failed(error, model)
    except SyntaxError as error:
        file = Path(error.filename or name).name
        return {"cause": f"{file}, line {error.lineno}: {error.msg}", "advice": _OWN}
    except BaseException as error:
        return _failed(error, model)
    return _entry_point(module, function or "handle")


def _is_own(name: str, model: Path) -> bool:
    return any((model / f"{name}{suffix}").exists() for suffix in (".py", ".so", ""))


def _missing(name: str, place: str) -> dict[str, str]:
    return {
        "cause": f"{place}no module named {name!r}",
        "advice": f"If {name.partition('.')[0]!r} is your own file, add it with --extra-files; if it is a "
        f"package: {_INSTALL[0].lower()}{_INSTALL[1:]}",
        "missing_module": name,
    }


def _failed(error: BaseException, model: Path) -> dict[str, str]:
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    return {"cause": f"{_place(error, model)}{text}", "advice": _OWN}


def _place(error: BaseException, model: Path) -> str:
    """The line of the model's own files that led to the error."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).is_relative_to(model):
            return f"{Path(frame.filename).relative_to(model)}, line {frame.lineno}: "
    return ""


def _entry_point(module: ModuleType, function: str) -> dict[str, str]:
    if getattr(module, function, None) is not None:
        return {}
    classes = [
        kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__
    ]
    if sum(hasattr(kind, "handle") for kind in classes) == 1:
        return {}
    names = ", ".join(sorted(kind.__name__ for kind in classes)) or "no class"
    return {
        "cause": f"{module.__name__} has neither a function {function!r} nor one handler class, but {names}",
        "advice": "Define handle(data, context), or one class with a method handle; other classes belong in "
        "a file of their own.",
    }


if __name__ == "__main__":
    main()
