"""Options that take several values, as TorchServe's `--models` does."""

from typing import Any

import typer
from typer.core import TyperCommand


class StartCommand(TyperCommand):
    """Lets `--models` take several values, as TorchServe does."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:  # else a shell completes a line that is not finished
            args = join_values(args, "--models")
        return super().parse_args(ctx, args)


def join_values(args: list[str], option: str) -> list[str]:
    """The arguments with all values that follow `option`, up to the next option, joined by commas.

    Raises typer.BadParameter if none follows.
    """
    joined: list[str] = []
    values: list[str] | None = None
    for arg in [*args, "--"]:
        if values is not None and not arg.startswith("-"):
            values.append(arg)
            continue
        if values is not None:
            joined.append(_joined(values, option))
        name, equals, value = arg.partition("=")
        values = ([value] if equals else []) if name == option else None
        if values is None:
            joined.append(arg)
    return joined[:-1]


def _joined(values: list[str], option: str) -> str:
    items = [item.strip() for value in values for item in value.split(",") if item.strip()]
    if not items:
        raise typer.BadParameter("at least one value is needed", param_hint=option)
    return f"{option}={','.join(items)}"
