"""The output of `marq status`: values, lines and a table."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from marq.queue.depth import UnreadLane

READY, LOADING, FAILING, STOPPED, RESTING = "ready", "loading", "failing", "stopped", "resting"
DEFAULT_MARK = " *"
STYLES = {READY: "green", LOADING: "yellow", FAILING: "red", STOPPED: "dim", RESTING: "dim"}


@dataclass(frozen=True)
class ServerStatus:
    """The lines above the table."""

    pid: int
    uptime_s: float
    inference_address: str
    management_address: str
    redis: str
    metrics_address: str = ""  # empty: there is none
    grpc_inference: str = ""  # the same
    grpc_management: str = ""


@dataclass(frozen=True)
class NodeStatus:
    """The same for a node without a server."""

    pid: int
    uptime_s: float
    node: str
    redis: str


@dataclass(frozen=True)
class ModelStatus:
    """One line of the table."""

    name: str
    version: str
    default: bool
    state: str
    reason: str  # why it fails: the last line that the replica printed
    replicas_ready: int
    replicas_wanted: int
    bounds: list[int] | None  # fewest and most replicas, where the number follows the queue
    scaled: str  # why there are so many, where that was decided
    devices: list[str]
    waiting: int
    requests: int  # done since it was registered
    mean_batch_size: float | None
    notices: list[str]  # how it works otherwise than asked


@dataclass(frozen=True)
class View:
    """All that is shown at one moment."""

    process: ServerStatus | NodeStatus
    models: list[ModelStatus]
    unread: "list[UnreadLane]"
    nodes: int  # that are alive

    def to_dict(self) -> dict[str, object]:
        lanes = [asdict(lane) for lane in self.unread]
        return {
            **asdict(self.process),
            "nodes": self.nodes,
            "models": [asdict(model) for model in self.models],
            "unread_lanes": lanes,
        }


def shown(view: View) -> Group:
    """The lines of `marq status`."""
    process, models = view.process, view.models
    lines: list[RenderableType] = [f"Running for {_duration(process.uptime_s)}, pid {process.pid}"]
    if isinstance(process, ServerStatus):
        lines.append(f"Inference   {process.inference_address}")
        lines.append(f"Management  {process.management_address}")
        if process.metrics_address:
            lines.append(f"Metrics     {process.metrics_address}")
        if process.grpc_inference:
            lines.append(f"gRPC        {process.grpc_inference}, management {process.grpc_management}")
    else:
        lines.append(f"Node        {escape(process.node)}")
    lines.append(f"Redis       {escape(process.redis)}")
    if models:
        lines += [_table(models), f"{DEFAULT_MARK} default version"]
    else:
        lines.append("No models are registered.")
    if not view.nodes:
        lines.append(Text("No node is alive: replicas start when `marq node` runs.", style="yellow"))
    for model in models:
        if model.reason:
            lines.append(Text.assemble((f"{model.name} {model.version}: ", "red"), model.reason))
        for notice in model.notices:
            lines.append(Text.assemble((f"{model.name} {model.version}: ", "yellow"), notice))
    for lane in view.unread:
        meant = f" Did you mean {lane.meant}?" if lane.meant else ""
        lines.append(Text(f"No pool reads {lane.key}: {lane.entries} entries wait.{meant}", style="yellow"))
    return Group(*lines)


def _table(models: list[ModelStatus]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("Model", "Version", "State"):
        table.add_column(heading, no_wrap=True, overflow="fold")
    for heading in ("Replicas", "Waiting", "Done", "Mean batch"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("Devices", overflow="fold")
    for model in models:
        table.add_row(
            escape(model.name),
            escape(model.version) + (DEFAULT_MARK if model.default else ""),
            f"[{STYLES[model.state]}]{model.state}[/]",
            f"{model.replicas_ready}/{model.replicas_wanted}",
            str(model.waiting),
            str(model.requests),
            "-" if model.mean_batch_size is None else f"{model.mean_batch_size:.1f}",
            " ".join(model.devices) or "-",
        )
    return table


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{n} {unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")) if n]
    return " ".join(parts[:2]) or "0 s"
