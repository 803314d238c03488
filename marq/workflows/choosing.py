"""Nodes that choose: their answer names the nodes that follow. TorchServe does not have them."""

from collections.abc import Mapping

from marq.errors import InvalidWorkflow
from marq.workflows.graph import Graph

KEY = "choose"


def choosing_nodes(spec: Mapping[object, object], graph: Graph) -> tuple[str, ...]:
    """The nodes under `choose`, in the order of the graph. Raises InvalidWorkflow.

    A chosen node gets the input of the node that has chosen it, so it has no other parents.
    """
    given = spec.get(KEY)
    listed = [] if given is None else given
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise InvalidWorkflow(f"`{KEY}` must be a list of nodes.")
    for name in listed:
        if not graph.children.get(name):
            raise InvalidWorkflow(f"`{KEY}`: {name[:200]} is not a node that others follow.")
        for follower in graph.children[name]:
            if len(graph.parents[follower]) > 1:
                raise InvalidWorkflow(f"`{KEY}`: {follower} must follow {name} only.")
    return tuple(name for name in graph.nodes if name in listed)
