"""The `marq` command. Commands import their modules when they run, so `marq --help` answers at once."""

import sys


def main() -> None:
    """The console script; ends the process with 0 (done), 1 (failed), 2 (wrong usage) or 130 (Ctrl-C)."""
    try:
        check_extras()
        from marq.cli.app import app

        app(prog_name="marq")
    except KeyboardInterrupt:  # during the imports
        sys.exit(130)


def check_extras() -> None:
    """Ends the process with 1 where marq is installed without the packages of the commands and the server."""
    try:
        import typer  # noqa: F401
    except ModuleNotFoundError:
        sys.exit(
            "Error: marq is installed for clients of the queue only. Install it for the commands and the "
            "server, too: pip install '.[worker]' (or '.[gateway]', without PyTorch)"
        )


def build() -> None:
    """The console script `build.sh`: `marq build`."""
    sys.argv.insert(1, "build")
    main()
