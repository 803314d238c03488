"""All commands in the order of `marq --help`."""

from typing import Annotated

import typer

from marq import __version__
from marq.cli import archiving, jobs, nodes, prediction, server, status
from marq.cli.terminal import Commands

SERVER, MODELS, REQUESTS = "Server", "Models", "Requests"

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # its tracebacks show local variables, tokens among them
    epilog="Example: marq start --model-store models --models all",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"marq {__version__}")
        raise typer.Exit


@app.callback()
def marq(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Serves TorchServe model archives through queues in Redis."""


app.command(
    cls=server.StartCommand,
    rich_help_panel=SERVER,
    epilog="Example: marq start --model-store models --models digits.mar cats=resnet.mar",
)(server.start)
app.command(rich_help_panel=SERVER, epilog="Example: marq stop")(server.stop)
app.command(rich_help_panel=SERVER, epilog="Example: marq status --json | jq '.models[].state'")(
    status.status
)
app.command(
    rich_help_panel=SERVER,
    epilog="Example: marq node --redis-url rediss://:$PASSWORD@queue.example.org:6379/0",
)(nodes.node)
app.command(
    rich_help_panel=MODELS,
    epilog="Example: marq archive --model-name digits -v 1.0 --handler image_classifier "
    "--serialized-file digits.pt --export-path models",
)(archiving.archive)
app.command(rich_help_panel=REQUESTS, epilog="Example: marq predict digits three.png")(prediction.predict)
app.command(rich_help_panel=REQUESTS, epilog="Example: marq submit digits scans/*.png --wait")(jobs.submit)
app.command(
    rich_help_panel=REQUESTS, epilog="Example: marq job digits:3f9c0a12b4 --wait 30 --result > answer.json"
)(jobs.job)
