"""Draws the graph of a workflow, as Mermaid's text or as an SVG picture."""

from collections.abc import Mapping
from html import escape

from marq.workflows.graph import Graph
from marq.workflows.spec import Workflow

WIDTH, HEIGHT, GAP = 160, 44, 40  # pixels of a box, and between boxes
LETTER = 8  # pixels, about
STYLE = "font-family: sans-serif; font-size: 14px"


def mermaid(workflow: Workflow, waiting: Mapping[str, int]) -> str:
    """A flow chart; functions are rounded, edges of a choice dotted, nodes over a list marked.

    `waiting`: how many entries of each node no replica has taken.
    """
    lines = ["flowchart TD"]
    numbers = {node.name: f"n{number}" for number, node in enumerate(workflow.nodes)}
    for node in workflow.nodes:
        text = _label(workflow, node.name, waiting).replace('"', "#quot;")
        left, right = ("[", "]") if not node.is_function else ("([", "])")
        lines.append(f'    {numbers[node.name]}{left}"{text}"{right}')
    for name, followers in workflow.graph.children.items():
        arrow = "-.->" if name in workflow.choose else "-->"
        lines += [f"    {numbers[name]} {arrow} {numbers[follower]}" for follower in followers]
    return "\n".join(lines) + "\n"


def svg(workflow: Workflow, waiting: Mapping[str, int]) -> str:
    """The same as a picture, the start node on top."""
    labels = {node.name: _label(workflow, node.name, waiting) for node in workflow.nodes}
    width = max(WIDTH, *(LETTER * len(label) + 2 * LETTER for label in labels.values()))
    rows = _rows(workflow.graph)
    most = max(len(row) for row in rows)
    size = most * (width + GAP) + GAP, len(rows) * (HEIGHT + GAP) + GAP
    places = {
        name: ((size[0] - len(row) * (width + GAP) + GAP) / 2 + x * (width + GAP), GAP + y * (HEIGHT + GAP))
        for y, row in enumerate(rows)
        for x, name in enumerate(row)
    }
    edges = [
        _edge(places[node], places[follower], width, node in workflow.choose)
        for node, followers in workflow.graph.children.items()
        for follower in followers
    ]
    boxes = [_box(places[node.name], labels[node.name], width, node.is_function) for node in workflow.nodes]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}" style="{STYLE}">'
    return "\n".join([head, *edges, *boxes, "</svg>"]) + "\n"


def _label(workflow: Workflow, name: str, waiting: Mapping[str, int]) -> str:
    text = f"{name}, each element" if name in workflow.map else name
    return f"{text} ({waiting[name]} waiting)" if waiting.get(name) else text


def _rows(graph: Graph) -> list[list[str]]:
    """The nodes by their longest way from the start."""
    depths: dict[str, int] = {}
    for node, parents in graph.parents.items():
        depths[node] = max((depths[parent] + 1 for parent in parents), default=0)
    return [[node for node in graph.nodes if depths[node] == y] for y in range(max(depths.values()) + 1)]


def _edge(start: tuple[float, float], end: tuple[float, float], width: int, is_chosen: bool) -> str:
    x1, y1, x2, y2 = start[0] + width / 2, start[1] + HEIGHT, end[0] + width / 2, end[1]
    line = 'stroke="#888888" stroke-dasharray="4"' if is_chosen else 'stroke="#888888"'
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" {line}/>'


def _box(place: tuple[float, float], label: str, width: int, is_function: bool) -> str:
    (x, y), radius = place, HEIGHT // 2 if is_function else 4
    shape = (
        f'x="{x:g}" y="{y:g}" width="{width}" height="{HEIGHT}" rx="{radius}" fill="#eef3fb" stroke="#3060a0"'
    )
    middle = f'x="{x + width / 2:g}" y="{y + HEIGHT / 2 + 5:g}" text-anchor="middle"'
    return f"<rect {shape}/>\n<text {middle}>{escape(label)}</text>"
