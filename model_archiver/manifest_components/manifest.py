"""The runtimes that a manifest may name."""

from enum import Enum


class RuntimeType(Enum):
    """The runtime of the handler: Python, or a library of C++ (`LSP`)."""

    PYTHON = "python"
    PYTHON3 = "python3"
    LSP = "LSP"
