"""The handler of a model that does not name one."""

import ast
from pathlib import Path

from archive.errors import PackagingError, SourceMissing

DEFAULT_HANDLER = "base_handler"
HANDLERS = ("Handler", "ImageClassifier", "TextClassifier", "ObjectDetector", "ImageSegmenter")
FACTORY = "handler_factory"  # of the package base_handler


def handler_of(model_file: str) -> str:
    """The model file itself if it defines `handle` or a handler, else the default handler.

    The file is parsed, not run. Raises SourceMissing, PackagingError.
    """
    try:
        tree = ast.parse(Path(model_file).read_bytes())
    except (FileNotFoundError, IsADirectoryError) as error:
        raise SourceMissing(f"File does not exist: {model_file}") from error
    except OSError as error:
        raise PackagingError(f"{model_file} cannot be read: {error}") from error
    except (SyntaxError, ValueError) as error:
        raise PackagingError(f"{model_file} is not Python: {error}") from error
    return model_file if any(map(_handles, tree.body)) else DEFAULT_HANDLER


def _handles(statement: ast.stmt) -> bool:
    match statement:
        case ast.Assign(value=ast.Call(func=maker)) | ast.AnnAssign(value=ast.Call(func=maker)) if (
            _name(maker) == FACTORY
        ):
            return True  # under whatever name
        case ast.FunctionDef(name="handle") | ast.AnnAssign(target=ast.Name("handle"), value=ast.expr()):
            return True
        case ast.Assign(targets=targets):
            return any(isinstance(target, ast.Name) and target.id == "handle" for target in targets)
        case ast.ImportFrom(names=names):
            return any((name.asname or name.name) == "handle" for name in names)
        case ast.ClassDef():
            return _is_handler(statement)
    return False


def _is_handler(kind: ast.ClassDef) -> bool:
    """Whether the class has a method `handle`, or a base class with the name of a handler."""
    if any(isinstance(part, ast.FunctionDef) and part.name == "handle" for part in kind.body):
        return True
    return any(_name(base).endswith(HANDLERS) for base in kind.bases)


def _name(expression: ast.expr) -> str:
    """The last part of a dotted name; empty for other expressions."""
    return expression.attr if isinstance(expression, ast.Attribute) else getattr(expression, "id", "")
