"""Workflows over HTTP: registered, run, listed and unregistered, as TorchServe's clients do it."""

import httpx
import pytest
from support import wait_for
from workflow_archives import pack_workflow

MODEL = """
import json

class Handler:
    def initialize(self, context):
        self.name = context.model_name

    def handle(self, data, context):
        return [self.name.encode() + b"(" + bytes(row["body"]) + b")" for row in data]
"""
FUNCTIONS = """
import json

def before(data, context):
    if data is None:
        return None
    return [b"<" + bytes(row["body"]) + b">" for row in data]

def left(data, context):
    return [b"l" + bytes(row["body"]) for row in data or ()]

def right(data, context):
    return [b"r" + bytes(row["body"]) for row in data or ()]

def join(data, context):
    return [b"+".join(bytes(row[name]) for name in sorted(row)) for row in data or ()]

def names(data, context):
    return [json.dumps(sorted(row)) for row in data or ()]

def asked(data, context):
    return [context.get_request_header(i, "X-Who") or "nobody" for i in range(len(data or ()))]

def as_object(data, context):
    return [{"got": bytes(row["body"]).decode()} for row in data or ()]

def as_other(data, context):
    return [{"size": len(row["body"])} for row in data or ()]

def broken(data, context):
    if data is not None:
        raise ValueError("no")

def kind(data, context):
    return [type(row["body"]).__name__ for row in data or ()]
"""


class Site:
    """A server, and the workflows that a test registers there."""

    def __init__(self, shared):
        self.server, self.store = shared.server, shared.store
        self.registered = []

    def register(self, name, spec, handler=FUNCTIONS, **query):
        pack_workflow(self.store, name, spec, handler)
        answer = self.post(url=f"{name}.war", **query)
        if answer.status_code == 200:
            self.registered.append(query.get("workflow_name", name))
        return answer

    def post(self, **query):
        return httpx.post(f"{self.server.management}/workflows", params=query, timeout=120)

    def get(self, path="", **query):
        return httpx.get(f"{self.server.management}/workflows{path}", params=query)

    def delete(self, name):
        return httpx.delete(f"{self.server.management}/workflows/{name}", timeout=120)

    def run(self, name, body=b"", **options):
        return httpx.post(f"{self.server.inference}/wfpredict/{name}", content=body, **options)


@pytest.fixture(scope="module")
def site(shared_server):
    site = Site(shared_server)
    yield site
    for name in site.registered:
        site.delete(name)
    shared_server.clear()


@pytest.fixture(scope="module")
def chain(site, make_archive):
    make_archive(site.store, "wrap", MODEL)
    answer = site.register(
        "chain", "models:\n  wrap: {url: wrap.mar}\ndag:\n  before: [wrap]\n  wrap: [left]\n"
    )
    assert (answer.status_code, answer.json()) == (
        200, {"status": "Workflow chain has been registered and scaled successfully."}
    )  # fmt: skip
    return "chain"


@pytest.fixture(scope="module")
def diamond(site):
    assert (
        site.register(
            "diamond", "dag:\n  before: [left, right]\n  left: [join]\n  right: [join]\n"
        ).status_code
        == 200
    )
    return "diamond"


def test_a_run_passes_through_functions_and_models(site, chain):
    answer = site.run(chain, b"x")
    assert (answer.status_code, answer.content) == (200, b"lchain__wrap(<x>)")
    assert answer.headers["content-type"] == "application/json"


def test_a_join_gets_the_answers_of_all_its_parents(site, diamond):
    assert site.run(diamond, b"x").content == b"l<x>+r<x>"


@pytest.mark.slow
def test_a_node_with_several_parents_gets_a_key_for_each(site):
    site.register("keys", "dag:\n  before: [left, right]\n  left: [names]\n  right: [names]\n")
    assert site.run("keys", b"x").json() == ["left", "right"]


@pytest.mark.slow
def test_all_nodes_get_the_clients_headers(site):
    site.register("heads", "dag:\n  before: [asked]\n")
    assert site.run("heads", b"x", headers={"X-Who": "me"}).content == b"me"


@pytest.mark.slow
def test_only_the_start_node_gets_a_decoded_body(site):
    site.register("kinds", "dag:\n  kind: []\n")
    site.register("kinds2", "dag:\n  before: [kind]\n")
    json_type = {"Content-Type": "application/json"}
    assert site.run("kinds", b"[1]", headers=json_type).content == b"list"
    answer = site.run("kinds2", b"x", headers={"Content-Type": "application/octet-stream"})
    assert answer.content == b"bytearray"


def test_several_leaves_make_one_object(site):
    site.register("fork", "dag:\n  before: [as_object, as_other]\n")
    answer = site.run("fork", b"x")
    assert (
        answer.content
        == b'{\n  "as_object": {\n    "got": "<x>"\n  },\n  "as_other": {\n    "size": 3\n  }\n}\n'
    )


@pytest.mark.slow
def test_each_of_several_leaves_must_be_an_object(site):
    site.register("odd", "dag:\n  before: [as_object, left]\n")
    answer = site.run("odd", b"x")
    assert answer.status_code == 500
    assert answer.json()["message"] == "The answer of node left is not a JSON object."


def test_a_node_that_fails_fails_the_run(site):
    site.register("fails", "models: {retry-attempts: 2}\ndag:\n  before: [broken]\n  broken: [left]\n")
    start = len(site.server.model_log)
    answer = site.run("fails", b"x")
    assert (answer.status_code, answer.json()) == (
        500, {"code": 500, "type": "InternalServerException", "message": "Error executing broken"}
    )  # fmt: skip
    wait_for(lambda: site.server.model_log[start:].count("ValueError: no") == 3, what="three tries")


def test_a_workflow_that_is_not_registered_is_not_found(site):
    for answer in (site.run("nope"), site.get("/nope"), site.delete("nope")):
        assert answer.status_code == 404
        assert answer.json() == {
            "code": 404, "type": "WorkflowNotFoundException", "message": "Workflow not found: nope"
        }  # fmt: skip


def test_a_workflow_is_described(site, chain):
    assert site.get("/chain").json() == [
        {
            "workflowName": "chain", "workflowUrl": "chain.war", "minWorkers": 1, "maxWorkers": 1,
            "batchSize": 1, "maxBatchDelay": 50, "workflowDag": "{before=[wrap], wrap=[left]}",
        }
    ]  # fmt: skip


def test_workflows_are_listed_in_pages(site, chain, diamond):
    first = site.get(limit=1).json()
    assert (first["nextPageToken"], len(first["workflows"])) == ("1", 1)
    listed = {each["workflowName"]: each["workflowUrl"] for each in site.get().json()["workflows"]}
    assert listed["chain"] == "chain.war"
    assert listed["diamond"] == "diamond.war"


def test_the_models_of_a_workflow_are_hidden_but_run(site, chain):
    models = httpx.get(f"{site.server.management}/models").json()["models"]
    assert not [model for model in models if "__" in model["modelName"]]
    assert "chain__wrap" in site.server.command("status").stdout
    assert site.server.predict("chain__wrap", b"x").content == b"chain__wrap(x)"


def test_a_name_is_taken_once(site, chain):
    answer = site.post(url="chain.war")
    assert (answer.status_code, answer.json()) == (
        409,
        {
            "code": 409, "type": "ConflictStatusException",
            "message": "Workflow chain is already registered.",
        },
    )  # fmt: skip


def test_the_request_may_name_the_workflow_and_unregistering_it_leaves_nothing(site, chain):
    assert site.register("chain", "dag:\n  before: [left]\n", workflow_name="other").status_code == 200
    assert site.run("other", b"x").content == b"l<x>"
    answer = site.delete("other")
    assert (answer.status_code, answer.json()) == (200, {"status": 'Workflow "other" unregistered'})
    assert site.run("other", b"x").status_code == 404
    assert httpx.get(f"{site.server.management}/models/other__left").status_code == 404


@pytest.mark.slow
def test_json_parameters_do_as_well(site):
    pack_workflow(site.store, "posted", "dag:\n  before: [left]\n", FUNCTIONS)
    url = f"{site.server.management}/workflows"
    answer = httpx.post(url, json={"url": "posted.war", "response_timeout": 60}, timeout=120)
    site.registered.append("posted")
    assert answer.status_code == 200, answer.text
    assert site.run("posted", b"x").content == b"l<x>"


def test_all_nodes_are_rolled_back_when_one_fails(site):
    answer = site.register(
        "half",
        "dag:\n  before: [left]\n  left: [bad]\n",
        FUNCTIONS + "\ndef bad(data, context):\n    1 / 0\n",
    )
    assert answer.status_code == 500
    failure = answer.json()
    assert failure["type"] == "WorkflowException"
    assert failure["message"].startswith("Workflow half has failed to register. Failures: [")
    assert "division by zero" in failure["message"]
    assert site.get("/half").status_code == 404
    assert httpx.get(f"{site.server.management}/models/half__before").status_code == 404


def test_a_model_that_is_not_there_is_named(site):
    answer = site.register("lost", "models:\n  m: {url: no.mar}\ndag:\n  before: [m]\n")
    assert (answer.status_code, answer.json()["message"]) == (
        500,
        "Workflow lost has failed to register. Failures: [Workflow Node lost__m failed to register. "
        "Details: Model not found at: no.mar]",
    )


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        ("dag: {a: [b], b: [a]}", "InvalidDAGException", "DAG should have only one start node"),
        ("dag: {left: [left]}", "InvalidDAGException", "Self loop exception"),
        ("dag: {before: [missing]}", "InvalidWorkflowException", "Node missing is neither under"),
        ("dag: {before: [a/b]}", "InvalidWorkflowException", "Invalid node name: 'a/b'"),
        ("dag: [", "InvalidWorkflowException", "Failed to parse yaml."),
        ("models: {}", "InvalidWorkflowException", "The workflow specification must have a map `dag`"),
    ],
)
def test_a_wrong_specification_is_refused(site, spec, kind, message):
    answer = site.register("wrong", spec)
    assert (answer.status_code, answer.json()["type"]) == (400, kind)
    assert answer.json()["message"].startswith(message)


def test_an_archive_that_is_not_there_is_not_found(site):
    answer = site.post(url="absent.war")
    assert (answer.status_code, answer.json()["message"]) == (
        404, "Workflow not found in workflow store: absent.war"
    )  # fmt: skip
    assert site.post().json()["message"] == "Parameter url is required."


def test_other_methods_are_not_allowed(site, chain):
    url = f"{site.server.management}/workflows"
    assert httpx.put(f"{url}/chain").status_code == 405
    assert httpx.delete(url).status_code == 405


def test_a_workflow_whose_model_was_removed_answers_at_once(site):
    site.register("holey", "dag:\n  before: [left]\n")
    httpx.delete(f"{site.server.management}/models/holey__left", timeout=60).raise_for_status()
    answer = site.run("holey", b"x")
    assert answer.status_code == 503
    assert "holey__left" in answer.json()["message"]


def test_a_run_may_be_a_job(site, diamond):
    job = site.server.submit("diamond", b"x")
    assert job.startswith("diamond:")
    assert site.server.result(job).content == b"l<x>+r<x>"
    state = httpx.get(f"{site.server.inference}/jobs/{job}").json()
    assert state["state"] == "succeeded"
    assert {name: node["state"] for name, node in state["nodes"].items()} == dict.fromkeys(
        ("before", "left", "right", "join"), "done"
    )


@pytest.mark.slow
def test_a_job_of_a_workflow_that_fails_says_where_and_why(site):
    site.register("failing", "models: {retry-attempts: 0}\ndag:\n  before: [broken]\n")
    job = site.server.submit("failing", b"x")
    assert site.server.result(job).status_code == 500
    state = httpx.get(f"{site.server.inference}/jobs/{job}").json()
    assert (state["state"], state["failed_node"], state["reason"]) == (
        "failed",
        "broken",
        "Prediction failed",
    )


def test_a_workflow_is_drawn(site, diamond):
    drawn = site.get("/diamond", format="mermaid")
    assert drawn.text.startswith('flowchart TD\n    n0(["before"])\n')
    assert site.get("/diamond", format="svg").headers["content-type"] == "image/svg+xml"
    assert site.get("/diamond", format="png").status_code == 400
    assert site.server.command("workflow", "draw", "diamond").stdout == drawn.text


@pytest.mark.slow
def test_the_command_line_has_it_all(site, tmp_path):
    pack_workflow(site.store, "by-hand", "dag:\n  before: [left]\n", FUNCTIONS)
    (tmp_path / "x").write_bytes(b"x")
    site.registered.append("named")
    done = site.server.command("workflow", "register", "by-hand.war", "--name", "named")
    assert done.stdout == "Workflow named has been registered and scaled successfully.\n", done.stderr
    assert "by-hand.war" in site.server.command("workflow", "list").stdout
    assert "{before=[left]}" in site.server.command("workflow", "describe", "named").stdout
    assert site.server.command("workflow", "run", "named", str(tmp_path / "x")).stdout.strip() == "l<x>"
    assert site.server.command("workflow", "delete", "named").stdout == 'Workflow "named" unregistered\n'
    failed = site.server.command("workflow", "delete", "named")
    assert failed.returncode == 1
    assert failed.stderr.endswith("Workflow not found: named\n")


def test_a_node_may_be_a_registered_model(site, make_archive):
    make_archive(site.store, "plain", MODEL)
    query = {"url": "plain.mar", "initial_workers": 1, "synchronous": "true"}
    httpx.post(f"{site.server.management}/models", params=query, timeout=60).raise_for_status()
    spec = "models:\n  known: {model: plain}\ndag:\n  before: [known]\n  known: [left]\n"
    assert site.register("mixed", spec).status_code == 200
    assert site.run("mixed", b"x").content == b"lplain(<x>)"
    assert httpx.get(f"{site.server.management}/models/mixed__known").status_code == 404
    site.delete("mixed").raise_for_status()
    assert site.server.predict("plain", b"x").status_code == 200, "it stays"
    answer = site.register("unknown", spec.replace("plain", "absent"))
    assert "Details: Model not found: absent" in answer.json()["message"]
