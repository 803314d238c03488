"""The graph of a workflow: which node follows which, with TorchServe's rules and texts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from marq.errors import InvalidGraph


@dataclass(frozen=True)
class Graph:
    """A directed acyclic graph with one start node. Both maps have all nodes, each after its parents."""

    children: Mapping[str, tuple[str, ...]]
    parents: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, edges: Mapping[str, Iterable[str]]) -> "Graph":
        """The graph of a specification's `dag`. Raises InvalidGraph."""
        children: dict[str, list[str]] = {}
        parents: dict[str, list[str]] = {}
        for node, followers in edges.items():
            for each in (node, *followers):
                children.setdefault(each, [])
                parents.setdefault(each, [])
            for follower in followers:
                _check_edge(node, follower, children)
                children[node].append(follower)
                parents[follower].append(node)
        order = _order(children, parents)
        return cls(
            {node: tuple(children[node]) for node in order}, {node: tuple(parents[node]) for node in order}
        )

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(self.children)

    @property
    def start(self) -> str:
        return self.nodes[0]

    @property
    def leaves(self) -> tuple[str, ...]:
        return tuple(node for node, followers in self.children.items() if not followers)


def _check_edge(node: str, follower: str, children: Mapping[str, list[str]]) -> None:
    if node == follower:
        raise InvalidGraph("Self loop exception")
    if follower in children[node]:  # TorchServe's text for an edge that is there twice
        raise InvalidGraph("loop exception")


def _order(children: Mapping[str, list[str]], parents: Mapping[str, list[str]]) -> list[str]:
    """All nodes, each after its parents."""
    if sum(not before for before in parents.values()) != 1:
        raise InvalidGraph("DAG should have only one start node")
    missing = {node: len(before) for node, before in parents.items()}
    order = [node for node, count in missing.items() if not count]
    for node in order:
        for follower in children[node]:
            missing[follower] -= 1
            if not missing[follower]:
                order.append(follower)
    if len(order) != len(children):
        raise InvalidGraph("Not a valid DAG")
    return order
