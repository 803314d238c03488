import pytest

from marq.errors import InvalidGraph
from marq.workflows.graph import Graph


def test_each_node_comes_after_its_parents():
    graph = Graph.of({"d": ["e"], "a": ["b", "c"], "b": ["d"], "c": ["d"]})
    assert graph.nodes == ("a", "b", "c", "d", "e")
    assert (graph.start, graph.leaves) == ("a", ("e",))
    assert graph.parents["d"] == ("b", "c")
    assert graph.children["a"] == ("b", "c")


def test_one_node_is_a_graph():
    assert Graph.of({"a": []}).leaves == ("a",)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ({"a": ["a"]}, "Self loop exception"),
        ({"a": ["b"], "b": ["b"]}, "Self loop exception"),
        ({"a": ["b", "b"]}, "loop exception"),
        ({"a": ["b"], "b": ["a"]}, "DAG should have only one start node"),
        ({"a": ["c"], "b": ["c"]}, "DAG should have only one start node"),
        ({"a": ["b"], "c": []}, "DAG should have only one start node"),
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, "Not a valid DAG"),
        ({"a": ["b"], "b": ["c"], "c": ["d"], "d": ["b"]}, "Not a valid DAG"),
        ({}, "DAG should have only one start node"),
    ],
)
def test_what_torchserve_refuses_is_refused_with_its_text(edges, message):
    with pytest.raises(InvalidGraph) as failure:
        Graph.of(edges)
    assert failure.value.message == message
    assert (failure.value.status, failure.value.type) == (400, "InvalidDAGException")
