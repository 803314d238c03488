"""The layers of the house: imports go down only, and no two modules import each other in a circle."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).parents[1]
# From the bottom to the top; those of one line do not import each other. `marq` itself: its own modules.
LAYERS = (
    ("archive", "ts", "base_handler"),
    (
        "model_archiver",
        "workflow_archiver",
        "marq.errors",
        "marq.keys",
        "marq.console",
        "marq.forms",
        "marq.gpus",
        "marq.reply_rules",
        "marq.token_planes",
    ),
    ("marq.logs",),
    ("marq.connections", "marq.plugins"),
    ("marq.registry", "marq.metrics"),
    ("marq.settings",),
    ("marq.payloads", "marq.migration"),
    ("marq.queue",),
    ("marq.webhooks",),
    ("marq.jobs", "marq.contract", "marq.admission"),
    ("marq.workflows",),
    ("marq.control",),
    ("marq.host",),
    ("marq.client",),
    ("marq",),  # marq/__init__: the public names
    ("marq.cli", "bridge", "gateway", "workers"),
)
# Inside a package, from the bottom to the top.
ROOMS = {
    "archive": (
        ("errors",),
        ("bounded_yaml", "formats", "value_rules"),
        ("manifest", "model_config", "shadows"),
        ("unpacking",),
        ("reader", "workflow"),
        ("store", "packing"),
    ),
    "gateway": (
        ("common_headers",),
        ("asgi",),
        ("auth", "error_answers", "in_process", "unused_parameters", "uploads"),
        ("routing",),
        ("inference",),
        ("openapi", "metrics"),
        ("http", "management"),
        ("batches", "observers", "openai", "workflows"),
        ("after_refresh", "endpoints", "grpc", "stopping"),
        ("application",),
        ("server", "trial"),
        ("__main__",),
    ),
    "workers": (
        ("devices", "launch", "scoreboard"),
        ("app",),
        ("handler",),
        ("group",),
        ("replica",),
        ("pool",),
        ("node",),
        ("foreground",),
    ),
}
MOST_MODULES = 16
PACKAGES = (
    "archive",
    "base_handler",
    "bridge",
    "gateway",
    "marq",
    "model_archiver",
    "ts",
    "workers",
    "workflow_archiver",
)
FILES = sorted(file for package in PACKAGES for file in (PROJECT / package).rglob("*.py"))


def name_of(file: Path) -> str:
    parts = file.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in FILES}


@cache
def imports(module: str) -> tuple[str, ...]:
    """The project's modules that a module imports; those for type checkers do not count."""
    return tuple(_imports(module))


def _imports(module: str) -> Iterator[str]:
    nodes: list[ast.AST] = [ast.parse(MODULES[module].read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.expr) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        ):
            continue
        nodes += ast.iter_child_nodes(node)
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in inner]
        yield from (name for name in names if name in MODULES and name != module)


def layer(module: str) -> int:
    """How high a module lies, by the longest name in LAYERS that it belongs to."""
    names = {name: height for height, layer in enumerate(LAYERS) for name in layer}
    return names[max((name for name in names if f"{module}.".startswith(f"{name}.")), key=len)]


def unit(module: str) -> str:
    """The name in LAYERS that a module belongs to."""
    names = [name for layer in LAYERS for name in layer if f"{module}.".startswith(f"{name}.")]
    return max(names, key=len).replace("base_handler", "ts")  # its handlers are those of ts: they are one


def room(module: str) -> int | None:
    """How high a module lies inside its package; None in a package without an order, or for its __init__."""
    package, _, rest = module.partition(".")
    if package not in ROOMS or not rest:
        return None
    name = rest.partition(".")[0]
    return next(height for height, rooms in enumerate(ROOMS[package]) if name in rooms)


def test_a_module_imports_only_from_lower_layers():
    upward = [
        f"{module} imports {other}"
        for module in MODULES
        for other in imports(module)
        if layer(other) > layer(module) or (layer(other) == layer(module) and unit(other) != unit(module))
    ]
    assert not upward, "from a layer that is not below its own:\n" + "\n".join(upward)


def test_inside_a_package_imports_go_down_too():
    upward = [
        f"{module} imports {other}"
        for module in MODULES
        if (height := room(module)) is not None
        for other in imports(module)
        if other.partition(".")[0] == module.partition(".")[0]
        and other.split(".")[:2] != module.split(".")[:2]
        and (found := room(other)) is not None
        and found >= height
    ]
    assert not upward, "from a folder that is not below its own:\n" + "\n".join(upward)


def test_no_modules_import_each_other_in_a_circle():
    # Modules that import nothing any more are taken away, again and again: what is left is in a circle
    left = {module: set(imports(module)) for module in MODULES}
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]
    assert not left, f"these import each other: {', '.join(sorted(left))}"


def test_no_folder_is_a_drawer():
    counts: dict[Path, int] = {}
    for file in FILES:
        if file.name != "__init__.py" and file.relative_to(PROJECT).parts[0] != "ts":
            counts[file.parent] = counts.get(file.parent, 0) + 1
    crowded = {str(folder.relative_to(PROJECT)): n for folder, n in counts.items() if n > MOST_MODULES}
    assert not crowded
