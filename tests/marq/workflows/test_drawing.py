from xml.etree import ElementTree

from workflow_plant import DIAMOND, workflow_of

from marq.workflows.drawing import mermaid, svg
from marq.workflows.spec import Node, NodeSettings, Workflow

SVG = "{http://www.w3.org/2000/svg}"


def test_mermaid_has_each_node_and_edge_and_the_numbers_that_wait():
    assert mermaid(workflow_of(DIAMOND), {"b": 3}) == (
        'flowchart TD\n    n0(["a"])\n    n1(["b (3 waiting)"])\n    n2(["c"])\n    n3(["d"])\n'
        "    n0 --> n1\n    n0 --> n2\n    n1 --> n3\n    n2 --> n3\n"
    )


def test_nodes_over_a_list_are_marked():
    workflow = workflow_of({"a": ["b"]}, mapped=("b",))
    assert '(["b, each element (3 waiting)"])' in mermaid(workflow, {"b": 3})
    picture = ElementTree.fromstring(svg(workflow, {}))
    assert [text.text for text in picture.iter(f"{SVG}text")] == ["a", "b, each element"]


def test_models_are_boxes_and_functions_are_rounded():
    model = Node("m", "m.mar", NodeSettings())
    workflow = Workflow("w", "w.war", "/w.war", "h.py", {"m": []}, NodeSettings(), (model,))
    assert 'n0["m"]' in mermaid(workflow, {})


def test_the_picture_is_xml_with_a_box_for_each_node_and_a_line_for_each_edge():
    picture = ElementTree.fromstring(svg(workflow_of(DIAMOND), {"d": 2}))
    assert [text.text for text in picture.iter(f"{SVG}text")] == ["a", "b", "c", "d (2 waiting)"]
    assert len(list(picture.iter(f"{SVG}rect"))) == 4
    assert len(list(picture.iter(f"{SVG}line"))) == 4
    tops = [float(box.get("y", 0)) for box in picture.iter(f"{SVG}rect")]
    assert tops[0] < tops[1] == tops[2] < tops[3]


def test_names_cannot_add_elements():
    picture = svg(workflow_of({"a<b": []}), {})
    assert [text.text for text in ElementTree.fromstring(picture).iter(f"{SVG}text")] == ["a<b"]


def test_edges_of_a_choice_are_dotted():
    workflow = workflow_of({"a": ["b", "c"]}, choose=["a"])
    assert mermaid(workflow, {}).endswith("    n0 -.-> n1\n    n0 -.-> n2\n")
    lines = ElementTree.fromstring(svg(workflow, {})).iter(f"{SVG}line")
    assert [line.get("stroke-dasharray") for line in lines] == ["4", "4"]
