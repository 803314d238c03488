"""The `marq` command. Commands import their modules when they run, so `marq --help` answers at once."""

import sys


def main() -> None:
    """The console script; ends the process with 0 (done), 1 (failed), 2 (wrong usage) or 130 (Ctrl-C)."""
    try:
        try:
            import typer  # noqa: F401
        except ModuleNotFoundError:
            sys.exit(
                "Error: marq is installed for clients of the queue only. Install it for the commands and the "
                "server, too: pip install '.[worker]' (or '.[gateway]', without PyTorch)"
            )
        from marq.cli.app import app

        app(prog_name="marq")
    except KeyboardInterrupt:  # during the imports
        sys.exit(130)


def build() -> None:
    """The console script `build.sh`: `marq build`."""
    sys.argv.insert(1, "build")
    main()
