import json
from pathlib import Path

import pytest

from archive.bounded_yaml import load_map
from archive.workflow import WorkflowArchive
from marq.errors import InvalidWorkflow
from marq.workflows.spec import NodeSettings, Workflow, workflow_of

FUNCTIONS = frozenset({"f", "g", "k"})


def read(text, functions=FUNCTIONS, name="w", given=""):
    archive = WorkflowArchive(Path("/store/w.war"), name, "h.py", load_map(text, "w.yaml"), functions)
    return workflow_of(archive, "w.war", given)


def node(workflow, name):
    return next(each for each in workflow.nodes if each.name == name)


def test_the_defaults_are_torchserves():
    workflow = read("models: {m: {url: m.mar}}\ndag: {f: [m]}")
    assert node(workflow, "m").settings == NodeSettings(1, 1, 1, 50, 1, 10_000)
    assert node(workflow, "f").settings == NodeSettings(1, 1, 1, 0, 1, 10_000)
    assert node(workflow, "f").url is None


def test_global_settings_apply_to_the_models_after_them():
    workflow = read(
        "models: {a: {url: a.mar}, batch-size: 4, max-workers: 2, b: {url: b.mar, batch-size: 8}}\n"
        "dag: {a: [b]}"
    )
    assert node(workflow, "a").settings.batch_size == 1
    assert (node(workflow, "b").settings.batch_size, node(workflow, "b").settings.max_workers) == (8, 2)
    assert workflow.settings.batch_size == 4


def test_functions_have_the_last_global_time_out_and_attempts_but_one_worker():
    workflow = read(
        "models: {retry-attempts: 3, timeout-ms: 500, max-workers: 9, batch-size: 9}\ndag: {f: [g]}"
    )
    assert node(workflow, "g").settings == NodeSettings(1, 1, 1, 0, 3, 500)


def test_the_graph_is_printed_as_a_java_map():
    assert read("dag: {f: [g], g: []}").dag_text == "{f=[g], g=[]}"


def test_empty_followers_do_not_count():
    assert read("dag: {f: [g, null, ' ']}").graph.children == {"f": ("g",), "g": ()}
    assert read("dag: {f: }").graph.nodes == ("f",)


def test_nodes_over_a_list_survive_the_json_and_are_in_the_plan():
    workflow = read("dag: {f: [g]}\nmap: [g]")
    assert workflow.map == ("g",)
    assert Workflow.from_json(workflow.to_json().encode()) == workflow
    nodes = json.loads(workflow.plan)["nodes"]
    assert nodes["g"]["map"] is True
    assert "map" not in nodes["f"]


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("dag: {f: [g]}\nmap: g", "must be a list of nodes"),
        ("dag: {f: [g]}\nmap: [7]", "must be a list of nodes"),
        ("dag: {f: [g]}\nmap: [h]", "h is not a node"),
        ("dag: {f: [g, h], g: [k], h: [k]}\nmap: [k]", "k must follow one node only"),
        ("dag: {f: [g]}\nchoose: [f]\nmap: [f]", "f is under `choose`, too"),
        ("dag: {f: [g, h]}\nmap: [g]", "several leaves need objects"),
    ],
)
def test_nodes_that_cannot_take_a_list_are_refused(rest, message):
    with pytest.raises(InvalidWorkflow, match=message):
        read(rest, functions=FUNCTIONS | {"h"})


def test_nodes_that_choose_survive_the_json():
    workflow = read("dag: {f: [g]}\nchoose: [f]")
    assert workflow.choose == ("f",)
    assert Workflow.from_json(workflow.to_json().encode()) == workflow


def test_a_workflow_survives_its_json():
    workflow = read("models: {m: {url: m.mar}}\ndag: {f: [m, g]}").with_versions({"m": "2.0"})
    stored = Workflow.from_json(workflow.to_json().encode())
    assert stored == workflow
    assert json.loads(stored.plan)["nodes"]["m"]["lane"] == ["marq:{w__m}:", ":2.0"]


def test_the_request_may_name_it():
    assert read("dag: {f: [g]}", given="other").model("f") == "other__f"


def test_a_node_may_be_a_registered_model():
    workflow = read("models: {a: {model: digits/2.0, timeout-ms: 7}, b: {model: digits}}\ndag: {a: [b]}")
    assert workflow.model("a") == workflow.model("b") == "digits"
    assert (node(workflow, "a").version, node(workflow, "a").settings.timeout_ms) == ("2.0", 7)
    assert not node(workflow, "b").is_function
    lanes = json.loads(workflow.with_versions({"b": "1.0"}).plan)["nodes"]
    assert lanes["b"]["lane"] == ["marq:{digits}:", ":1.0"]


def test_functions_that_cannot_be_seen_are_believed():
    assert read("dag: {f: [unseen]}", functions=None).graph.leaves == ("unseen",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dag: {f: [h]}", "Node h is neither under `models`, nor a function of the handler file h.py."),
        ("dag: {f: ['a/b']}", "Invalid node name: 'a/b' is neither a model nor a function's name."),
        ("models: {'a/b': {url: m.mar}}\ndag: {f: ['a/b']}", "Invalid node name: 'w__a/b'."),
        ("models: {m: {}}\ndag: {f: [m]}", "`models`: m has no url."),
        ("models: {m: {model: a/b/c}}\ndag: {m: []}", "`models`: m must name a model as NAME"),
        ("models: {m: {model: a, url: b}}\ndag: {m: []}", "`models`: m is a registered model, so it cannot"),
        ("models: {m: {model: a, batch-size: 2}}\ndag: {m: []}", "`models`: m is a registered model, so"),
        ("models: {m: 7}\ndag: {f: [m]}", "`models`: m must be a map"),
        ("models: {batch-size: 0}\ndag: {f: [g]}", "`models`: batch-size must be an integer from 1"),
        ("models: {timeout-ms: true}\ndag: {f: [g]}", "`models`: timeout-ms must be an integer"),
        ("models: {min-workers: 3, m: {url: m.mar}}\ndag: {f: [m]}", "`models`: m has a max-workers below"),
        ("dag: {f: g}", "`dag`: f must be followed by a list of names."),
        ("dag: {f: [7]}", "`dag`: f must be followed by a list of names."),
        ("dag: {f: [g]}\nchoose: f", "`choose` must be a list of nodes."),
        ("dag: {f: [g]}\nchoose: [g]", "`choose`: g is not a node that others follow."),
        ("dag: {f: [g]}\nchoose: [h]", "`choose`: h is not a node that others follow."),
        (
            "dag: {f: [g, k], k: [g]}\nchoose: [f]",
            "`choose`: g must follow f only.",
        ),
        ("dag: {}", "The workflow specification must have a map `dag`"),
        ("models: []\ndag: {f: []}", "The workflow specification must have a map `models`"),
        ("dag: {1: [f]}", "The workflow specification must have a map `dag` of names."),
    ],
)
def test_what_is_wrong_is_named(text, message):
    with pytest.raises(InvalidWorkflow) as failure:
        read(text)
    assert failure.value.message.startswith(message)
    assert failure.value.status == 400


@pytest.mark.parametrize("name", ["a/b", "", "x" * 200, "{a}"])
def test_a_workflow_has_a_name_that_models_can_have(name):
    with pytest.raises(InvalidWorkflow):
        read("dag: {f: [g]}", name=name)


def test_the_number_of_nodes_is_bounded():
    chain = ", ".join(f"n{i}: [n{i + 1}]" for i in range(300))
    with pytest.raises(InvalidWorkflow, match="The workflow has 301 nodes; at most 200 are allowed"):
        read(f"dag: {{{chain}}}", functions=None)
