"""The result of a check of `marq doctor`."""

from dataclasses import dataclass

OK, WARNING, WRONG = "ok", "warning", "wrong"


@dataclass(frozen=True)
class Finding:
    """The result of one check. `advice`: the remedy of a problem."""

    name: str
    state: str
    text: str
    advice: str = ""
