"""Nodes over a list: each element of their input is one entry. TorchServe does not have them."""

from collections.abc import Mapping, Sequence

from marq.errors import InvalidWorkflow
from marq.workflows.graph import Graph

KEY = "map"


def mapped_nodes(spec: Mapping[object, object], graph: Graph, choose: Sequence[str]) -> tuple[str, ...]:
    """The nodes under `map`, in the order of the graph. Raises InvalidWorkflow.

    Such a node gets one list, and answers with a list.
    """
    given = spec.get(KEY)
    listed = [] if given is None else given
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise InvalidWorkflow(f"`{KEY}` must be a list of nodes.")
    for name in listed:
        if name not in graph.parents:
            raise InvalidWorkflow(f"`{KEY}`: {name[:200]} is not a node.")
        if len(graph.parents[name]) > 1:
            raise InvalidWorkflow(f"`{KEY}`: {name} must follow one node only.")
        if name in choose:
            raise InvalidWorkflow(f"`{KEY}`: {name} is under `choose`, too.")
        if name in graph.leaves and len(graph.leaves) > 1:
            raise InvalidWorkflow(f"`{KEY}`: {name} answers with a list; several leaves need objects.")
    return tuple(name for name in graph.nodes if name in listed)
