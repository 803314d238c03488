"""All commands in the order of `marq --help`."""

from typing import Annotated

import typer

from marq import __version__
from marq.cli.arguments import StartCommand
from marq.cli.commands.models import archive, build, management, run, transfer, workflows
from marq.cli.commands.requests import (
    batch,
    bench,
    contract,
    dead_letters,
    jobs,
    predict,
    submit,
    webhooks,
)
from marq.cli.commands.server import (
    bridge,
    config,
    doctor,
    hosts,
    logs,
    migrate,
    plugins,
    start,
    status,
    stop,
    top,
)
from marq.cli.output import Commands

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
    cls=StartCommand,
    rich_help_panel=SERVER,
    epilog="Example: marq start --model-store models --models digits.mar cats=resnet.mar",
)(start.start)
app.command(rich_help_panel=SERVER, epilog="Example: marq stop")(stop.stop)
app.command(rich_help_panel=SERVER, epilog="Example: marq status --json | jq '.models[].state'")(
    status.status
)
app.command(rich_help_panel=SERVER, epilog="Example: marq top --interval 2")(top.top)
app.command(rich_help_panel=SERVER, epilog="Example: marq logs -f digits")(logs.logs)
app.command(rich_help_panel=SERVER, epilog="Example: marq config --ts-config config.properties --changed")(
    config.config
)
app.command(
    "redis-url", rich_help_panel=SERVER, epilog="Example: marq redis-url | xargs -I{} redis-cli -u {} PING"
)(config.redis_url)
app.command(rich_help_panel=SERVER, epilog="Example: marq doctor --model-store models")(doctor.doctor)
app.command(rich_help_panel=SERVER, epilog="Example: marq plugins --plugins-path plugins")(plugins.plugins)
app.command(rich_help_panel=SERVER, epilog="Example: marq migrate my-torchserve")(migrate.migrate)
app.command(
    cls=StartCommand,
    rich_help_panel=SERVER,
    epilog="Example: marq gateway --redis-url rediss://:$PASSWORD@queue.example.org:6379/0 --models all",
)(hosts.gateway)
app.command(
    rich_help_panel=SERVER,
    epilog="Example: marq node --redis-url rediss://:$PASSWORD@queue.example.org:6379/0",
)(hosts.node)
app.command(
    rich_help_panel=SERVER,
    epilog="Example: marq bridge --redis-url redis://queue.example.org/0 --broker amqp://guest:guest@rabbit//",
)(bridge.bridge)
app.command(rich_help_panel=MODELS, epilog="Example: marq models --json | jq '.[].name'")(management.models)
app.command(rich_help_panel=MODELS, epilog="Example: marq describe digits --json")(management.describe)
app.command(
    rich_help_panel=MODELS, epilog="Example: marq register digits.mar --batch-size 8 --max-batch-delay 50"
)(management.register)
app.command(cls=management.ScaleCommand, rich_help_panel=MODELS, epilog="Example: marq scale digits 4")(
    management.scale
)
app.command(rich_help_panel=MODELS, epilog="Example: marq reload digits")(management.reload)
app.command("set-default", rich_help_panel=MODELS, epilog="Example: marq set-default digits 2.0")(
    management.set_default
)
app.command(rich_help_panel=MODELS, epilog="Example: marq unregister digits --version 1.0")(
    management.unregister
)
app.command(rich_help_panel=MODELS, epilog="Example: marq export models.json")(transfer.export)
app.command("import", rich_help_panel=MODELS, epilog="Example: marq import models.json")(transfer.import_)
app.command(
    rich_help_panel=MODELS,
    epilog="Example: marq archive --model-name digits -v 1.0 --handler image_classifier "
    "--serialized-file digits.pt --export-path models",
)(archive.archive)
app.command(rich_help_panel=MODELS, epilog="Example: marq run models/digits.mar three.png --pdb")(run.run)
app.command(
    rich_help_panel=MODELS,
    epilog="Example: marq build --model_name shapes --model_file handler.py --checkpoint_file shapes.pth "
    "--version 1.0",
)(build.build)
app.add_typer(
    workflows.app,
    name="workflow",
    help="Register, run and draw workflows.",
    rich_help_panel=MODELS,
    epilog="Example: marq workflow list",
)
app.command(rich_help_panel=REQUESTS, epilog="Example: marq predict digits three.png")(predict.predict)
app.command(rich_help_panel=REQUESTS, epilog="Example: marq explain digits three.png")(predict.explain)
app.command(rich_help_panel=REQUESTS, epilog="Example: marq bench digits three.png -c 64 -d 30")(bench.bench)
app.command(rich_help_panel=REQUESTS, epilog="Example: marq submit digits scans/*.png --wait")(submit.submit)
app.command(rich_help_panel=REQUESTS, epilog="Example: marq batch digits rows.jsonl --wait")(batch.batch)
app.command(
    rich_help_panel=REQUESTS, epilog="Example: marq job digits:3f9c0a12b4 --wait 30 --result > answer.json"
)(jobs.job)
app.command(rich_help_panel=REQUESTS, epilog="Example: marq jobs digits --state failed")(jobs.jobs)
app.command(rich_help_panel=REQUESTS, epilog="Example: marq cancel --model digits --tag night")(jobs.cancel)
app.command(rich_help_panel=REQUESTS, epilog="Example: marq retry digits:3f9c0a12b4")(jobs.retry)
app.add_typer(
    dead_letters.dead,
    name="dead",
    help="Inspect, replay and delete requests that were given up.",
    rich_help_panel=REQUESTS,
    epilog="Example: marq dead list",
)
app.add_typer(
    webhooks.app,
    name="webhooks",
    help="Show and replay messages of webhooks that were not delivered.",
    rich_help_panel=REQUESTS,
    epilog="Example: marq webhooks list --failed",
)
app.add_typer(
    contract.app,
    name="contract",
    help="Check entries that other programs write to the queue.",
    rich_help_panel=REQUESTS,
    epilog="Example: my-producer --print | marq contract check",
)
