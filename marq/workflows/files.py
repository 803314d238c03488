"""Which bodies and answers of a run may be files: those that the scripts of runs pass on as they are."""

from collections.abc import Collection, Iterator

from marq.workflows.graph import Graph


def answers_as_files(graph: Graph, choose: Collection[str], mapped: Collection[str]) -> frozenset[str]:
    """The nodes whose answers may be files.

    A join, the object of several leaves, a choice and a list of elements are made, or read, in Redis.
    """
    return frozenset(
        node
        for node, followers in graph.children.items()
        if node not in choose
        and node not in mapped
        and (followers or len(graph.leaves) == 1)
        and all(_takes_files(graph, each, mapped) for each in _receivers(graph, node, choose))
    )


def input_as_file(graph: Graph, choose: Collection[str], mapped: Collection[str]) -> bool:
    """Whether the client's request may be a file."""
    receivers = [graph.start, *(_receivers(graph, graph.start, choose) if graph.start in choose else ())]
    return not any(node in mapped for node in receivers)


def _receivers(graph: Graph, node: str, choose: Collection[str]) -> Iterator[str]:
    """The nodes that get a node's answer: also those that one of these chooses."""
    for follower in graph.children[node]:
        yield follower
        if follower in choose:
            yield from _receivers(graph, follower, choose)


def _takes_files(graph: Graph, node: str, mapped: Collection[str]) -> bool:
    return len(graph.parents[node]) == 1 and node not in mapped
