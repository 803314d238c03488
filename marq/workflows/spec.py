"""A workflow with every setting resolved: its nodes, and how they follow each other."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache

from archive.workflow import WorkflowArchive
from marq import keys
from marq.errors import InvalidWorkflow
from marq.registry import names
from marq.workflows.choosing import choosing_nodes
from marq.workflows.files import answers_as_files, input_as_file
from marq.workflows.graph import Graph
from marq.workflows.mapping import mapped_nodes

MOST_NODES = 200
FUNCTION_VERSION = "1.0"
PRIORITY = "%s"  # of a lane in a plan
LARGEST = 2**31 - 1
KEPT = 1000  # workflows that stay parsed


@dataclass(frozen=True)
class NodeSettings:
    """The settings of a node; those of the workflow are the defaults of its models."""

    min_workers: int = 1
    max_workers: int = 1
    batch_size: int = 1
    max_batch_delay: int = 50  # ms
    retry_attempts: int = 1  # tries after the first one
    timeout_ms: int = 10_000  # of one try


OF_TRIES = ("retry-attempts", "timeout-ms")
YAML_KEYS = {name.replace("_", "-"): name for name in NodeSettings.__dataclass_fields__}


@dataclass(frozen=True)
class Node:
    """One node of a workflow: a model of its own, a registered model, or a function of the handler file."""

    name: str
    url: str | None  # of the archive of a model of its own
    settings: NodeSettings
    version: str = FUNCTION_VERSION  # of its model; empty: the default version when it is registered
    model: str = ""  # name of the registered model

    @property
    def is_function(self) -> bool:
        return self.url is None and not self.model


@dataclass(frozen=True)
class Workflow:
    """A registered workflow."""

    name: str
    url: str  # with which it was registered
    archive: str  # path of the archive on hosts that run functions of it
    handler: str
    dag: Mapping[str, list[str]]  # as the specification has it
    settings: NodeSettings  # the defaults at the end of the specification
    nodes: tuple[Node, ...]  # each after its parents
    choose: tuple[str, ...] = ()  # nodes whose answers name those that follow
    map: tuple[str, ...] = ()  # nodes over a list

    def model(self, node: str) -> str:
        """The name of the model that runs a node."""
        return self._models[node]

    @cached_property
    def _models(self) -> dict[str, str]:
        return {node.name: node.model or f"{self.name}__{node.name}" for node in self.nodes}

    @cached_property
    def graph(self) -> Graph:
        return Graph.of(self.dag)

    @cached_property
    def plan(self) -> bytes:
        """The plan of a run (see marq/queue/lua/run_entries.lua), as JSON."""
        as_files = answers_as_files(self.graph, self.choose, self.map)
        nodes = {
            node.name: {
                "lane": keys.lane(self.model(node.name), node.version, PRIORITY).split(PRIORITY),
                "from": list(self.graph.parents[node.name]),
                "to": list(self.graph.children[node.name]),
                "timeout": node.settings.timeout_ms,
                "tries": node.settings.retry_attempts + 1,
                **({"choose": True} if node.name in self.choose else {}),
                **({"map": True} if node.name in self.map else {}),
                **({"file": True} if node.name in as_files else {}),
            }
            for node in self.nodes
        }
        plan = {"start": self.graph.start, "leaves": self.graph.leaves, "nodes": nodes}
        return json.dumps(plan).encode()

    @cached_property
    def takes_file(self) -> bool:
        """Whether the client's request may be a file."""
        return input_as_file(self.graph, self.choose, self.map)

    @property
    def dag_text(self) -> str:
        """The graph as Java prints a map: `{a=[b, c], b=[d]}`."""
        edges = (f"{node}=[{', '.join(after)}]" for node, after in self.dag.items())
        return "{" + ", ".join(edges) + "}"

    def with_versions(self, versions: Mapping[str, str]) -> "Workflow":
        """The same with the versions of its models, by node."""
        nodes = (replace(node, version=versions.get(node.name, node.version)) for node in self.nodes)
        return replace(self, nodes=tuple(nodes))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    @lru_cache(KEPT)
    def from_json(text: bytes) -> "Workflow":
        stored = json.loads(text)
        nodes = tuple(
            Node(**{**node, "settings": NodeSettings(**node["settings"])}) for node in stored["nodes"]
        )
        settings = NodeSettings(**stored["settings"])
        lists = {key: tuple(stored.get(key, ())) for key in ("choose", "map")}
        return Workflow(**{**stored, "settings": settings, "nodes": nodes, **lists})


def workflow_of(archive: WorkflowArchive, url: str, name: str = "") -> Workflow:
    """The workflow of an archive. Raises InvalidWorkflow or InvalidGraph."""
    name = name or archive.name
    _check_name(name, "workflow")
    defaults, models = _models(archive.spec)
    dag = _dag(archive.spec)
    graph = Graph.of(dag)
    if len(graph.nodes) > MOST_NODES:
        raise InvalidWorkflow(f"The workflow has {len(graph.nodes)} nodes; at most {MOST_NODES} are allowed.")
    nodes = tuple(models.get(node) or _function(node, archive, defaults) for node in graph.nodes)
    for node in nodes:
        _check_name(f"{name}__{node.name}", "node")
    path, choose = str(archive.path.absolute()), choosing_nodes(archive.spec, graph)
    mapped = mapped_nodes(archive.spec, graph, choose)
    return Workflow(name, url, path, archive.handler, dag, defaults, nodes, choose, mapped)


def _check_name(name: str, what: str) -> None:
    if not names.is_model_name(name):
        raise InvalidWorkflow(f"Invalid {what} name: {name[:200]!r}. {names.MODEL_RULE}")


def _function(name: str, archive: WorkflowArchive, defaults: NodeSettings) -> Node:
    if not name.isidentifier():
        raise InvalidWorkflow(f"Invalid node name: {name[:200]!r} is neither a model nor a function's name.")
    if archive.functions is not None and name not in archive.functions:
        raise InvalidWorkflow(
            f"Node {name} is neither under `models`, nor a function of the handler file {archive.handler}."
        )
    settings = NodeSettings(
        max_batch_delay=0, retry_attempts=defaults.retry_attempts, timeout_ms=defaults.timeout_ms
    )
    return Node(name, None, settings)


def _models(spec: Mapping[object, object]) -> tuple[NodeSettings, dict[str, Node]]:
    """The global settings, and the models by name. A global setting applies to the models after it."""
    models: dict[str, Node] = {}
    defaults = NodeSettings()
    for key, value in _map(spec, "models", required=False).items():
        if key in YAML_KEYS:
            defaults = replace(defaults, **{YAML_KEYS[key]: _integer(key, value)})
        elif isinstance(value, dict):
            models[key] = _model(key, value, defaults)
        else:
            raise InvalidWorkflow(f"`models`: {key} must be a map with the url of a model archive.")
    return defaults, models


def _model(name: str, given: Mapping[object, object], defaults: NodeSettings) -> Node:
    url, registered = given.get("url"), given.get("model")
    if registered is not None:
        return _registered(name, given, defaults)
    if not isinstance(url, str) or not url.strip():
        raise InvalidWorkflow(f"`models`: {name} has no url.")
    own = {
        YAML_KEYS[str(key)]: _integer(f"{name}.{key}", value)
        for key, value in given.items()
        if key in YAML_KEYS
    }
    settings = replace(defaults, **own)
    if settings.max_workers < settings.min_workers:
        raise InvalidWorkflow(f"`models`: {name} has a max-workers below its min-workers.")
    return Node(name, url.strip(), settings)


def _registered(name: str, given: Mapping[object, object], defaults: NodeSettings) -> Node:
    """A node that a registered model runs, `model: NAME` or `NAME/VERSION`."""
    unknown = sorted(str(key) for key in given.keys() - {"model", *OF_TRIES})
    if unknown:
        raise InvalidWorkflow(
            f"`models`: {name} is a registered model, so it cannot have {', '.join(unknown)}."
        )
    model, _, version = str(given["model"]).partition("/")
    if not names.is_model_name(model) or (version and not names.is_version(version)):
        raise InvalidWorkflow(f"`models`: {name} must name a model as NAME or NAME/VERSION.")
    own = {YAML_KEYS[key]: _integer(f"{name}.{key}", given[key]) for key in OF_TRIES if key in given}
    return Node(name, None, replace(defaults, **own), version, model)


def _integer(key: str, value: object) -> int:
    least = 0 if key.rpartition(".")[2] in ("max-batch-delay", "retry-attempts") else 1
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST:
        raise InvalidWorkflow(
            f"`models`: {key} must be an integer from {least} to {LARGEST}, got {value!r:.80}"
        )
    return value


def _dag(spec: Mapping[object, object]) -> dict[str, list[str]]:
    """The followers of each node; empty ones do not count."""
    dag: dict[str, list[str]] = {}
    for node, followers in _map(spec, "dag").items():
        listed = [] if followers is None else followers
        if not isinstance(listed, list) or not all(isinstance(each, str | None) for each in listed):
            raise InvalidWorkflow(f"`dag`: {node} must be followed by a list of names.")
        dag[node] = [each for each in listed if each is not None and each.strip()]
    return dag


def _map(spec: Mapping[object, object], key: str, required: bool = True) -> dict[str, object]:
    value = spec.get(key)
    if value is None and not required:
        return {}
    if (
        not isinstance(value, dict)
        or (required and not value)
        or not all(isinstance(name, str) for name in value)
    ):
        raise InvalidWorkflow(f"The workflow specification must have a map `{key}` of names.")
    return value
