"""The answers of TorchServe 0.12.0 to the same requests about the same `.war` files, byte for byte.

MARQ_REAL_TORCHSERVE is the virtual environment that it is installed in; it needs Java.
"""

import contextlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from support import wait_for
from workflow_archives import pack_workflow

from benchmarks.processes import Tree, free_port

VENV = os.environ.get("MARQ_REAL_TORCHSERVE", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (VENV and shutil.which("java")),
        reason="MARQ_REAL_TORCHSERVE is not set to an environment with torchserve 0.12.0, or java is missing",
    ),
]
MODEL = """
class Handler:
    def initialize(self, context):
        pass

    def handle(self, data, context):
        return [b"(" + bytes(row["body"]) + b")" for row in data]
"""
FUNCTIONS = """
import json

def before(data, context):
    return [b"<" + bytes(row["body"]) + b">" for row in data or ()]

def left(data, context):
    return [b"l" + bytes(row["body"]) for row in data or ()]

def right(data, context):
    return [b"r" + bytes(row["body"]) for row in data or ()]

def join(data, context):
    return [b"+".join(bytes(row[name]) for name in sorted(row)) for row in data or ()]

def text(data, context):
    return [f"{type(row['body']).__name__} {row['body']}" for row in data or ()]

def fields(data, context):
    return [json.dumps({name: str(value) for name, value in sorted(row.items())}) for row in data or ()]

def who(data, context):
    return [context.get_request_header(i, "X-Who") or "unknown" for i in range(len(data or ()))]

def as_object(data, context):
    odd = {"list": [1, 2.5, None, True], "of": {"\\u00e9": "<&>"}}
    return [{"got": bytes(row["body"]).decode(), **odd} for row in data or ()]

def as_text(data, context):
    return [json.dumps({"size": len(row["body"])}) for row in data or ()]

def broken(data, context):
    if data is not None:
        raise ValueError("no")

def none(data, context):
    return None if data is None else []
"""
NONE = "models:\n  min-workers: 1\n"  # TorchServe fails without `models`
FAST = "models:\n  retry-attempts: 0\n  wrap: {url: wrap.mar}\n"
MODELS = NONE + "  max-workers: 1\n  batch-size: 2\n  max-batch-delay: 10\n  wrap: {url: wrap.mar}\n"
SPECS = {  # archive -> specification
    "chain": MODELS + "dag:\n  before: [wrap]\n  wrap: [left]\n",
    "diamond": NONE + "dag:\n  before: [left, right]\n  left: [join]\n  right: [join]\n",
    "one": NONE + "dag:\n  text: []\n",
    "fields": NONE + "dag:\n  fields: []\n",
    "heads": NONE + "dag:\n  before: [who]\n",
    "leaves": NONE + "dag:\n  before: [as_object, as_text]\n",
    "fails": FAST + "dag:\n  wrap: [broken]\n",
    "nothing": FAST + "dag:\n  wrap: [none]\n",
    "itself": NONE + "dag:\n  before: [before]\n",
    "twice": NONE + "dag:\n  before: [left, left]\n",
    "cycle": NONE + "dag:\n  before: [left]\n  left: [right]\n  right: [left]\n",
    "starts": NONE + "dag:\n  before: [join]\n  left: [join]\n",
    "round": NONE + "dag:\n  left: [right]\n  right: [left]\n",
    "modelless": "dag:\n  text: []\n",
    "absent": "models:\n  gone: {url: gone.mar}\ndag:\n  before: [gone]\n",
}
WORKING = ("chain", "diamond", "one", "fields", "heads", "leaves", "fails", "nothing")


@dataclass(frozen=True)
class Case:
    """One request."""

    name: str
    path: str
    method: str = "POST"
    management: bool = True
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


def run(name, workflow, content=b"x", method="POST", **headers):
    return Case(f"run: {name}", f"/wfpredict/{workflow}", method, False, content, headers)


JSON, FORM = "application/json", "application/x-www-form-urlencoded"
CASES = (
    Case("list: none is there", "/workflows", "GET"),
    Case("register: no url", "/workflows"),
    Case("register: not in the store", "/workflows?url=missing.war"),
    *(Case(f"register: {name}", f"/workflows?url={name}.war") for name in SPECS),
    Case("register: as before", "/workflows/modelless", "DELETE"),
    Case("register: again", "/workflows?url=chain.war"),
    Case("register: another name", "/workflows?url=one.war&workflow_name=other"),
    Case(
        "register: as JSON",
        "/workflows",
        content=b'{"url":"one.war","workflow_name":"json","response_timeout":60,"startup_timeout":60}',
        headers={"Content-Type": JSON},
    ),
    Case("list", "/workflows", "GET"),
    Case("list: a page", "/workflows?limit=3", "GET"),
    Case("list: the next page", "/workflows?limit=3&next_page_token=3", "GET"),
    Case("list: up to the last one", "/workflows?limit=10", "GET"),
    *(Case(f"describe: {name}", f"/workflows/{name}", "GET") for name in (*WORKING, "other", "unknown")),
    Case("method: PUT", "/workflows/chain", "PUT"),
    Case("method: PATCH", "/workflows", "PATCH"),
    run("chain", "chain"),
    run("chain, without a body", "chain", b""),
    run("chain, by PUT", "chain", method="PUT"),
    run("diamond", "diamond"),
    run("bytes", "one", b"\x00\xff", **{"Content-Type": "application/octet-stream"}),
    run("text", "one", b"x", **{"Content-Type": "text/plain"}),
    run("JSON", "one", b'{"a": [1, 2]}', **{"Content-Type": JSON}),
    run("a form", "fields", b"a=1&b=two", **{"Content-Type": FORM}),
    run("a client's headers", "heads", **{"X-Who": "me"}),
    run("several leaves", "leaves"),
    run("a function raises", "fails"),
    run("a function returns too few answers", "nothing"),
    run("another name", "other"),
    run("an unknown workflow", "unknown"),
    Case("run: no name", "/wfpredict", "POST", False),
    Case("unregister: unknown", "/workflows/unknown", "DELETE"),
    *(Case(f"unregister: {name}", f"/workflows/{name}", "DELETE") for name in (*WORKING, "other", "json")),
    Case("unregister: again", "/workflows/chain", "DELETE"),
    Case("run: after the workflow was unregistered", "/wfpredict/chain", "POST", False),
)


@dataclass(frozen=True)
class Answer:
    status: int
    type: str
    body: bytes


def play(inference, management):
    """The answers to all cases, one after the other."""
    answers = {}
    with httpx.Client(timeout=300) as client:
        for case in CASES:
            url = (management if case.management else inference) + case.path
            answer = client.request(case.method, url, content=case.content, headers=case.headers)
            kind = answer.headers.get("content-type", "")
            answers[case.name] = Answer(answer.status_code, kind, answer.content)
    return answers


@pytest.fixture(scope="module")
def store(tmp_path_factory, make_archive):
    store = tmp_path_factory.mktemp("workflows") / "store"
    make_archive(store, "wrap", MODEL)
    for name, spec in SPECS.items():
        pack_workflow(store, name, spec, FUNCTIONS)
    return store


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, store):
    directory = tmp_path_factory.mktemp("torchserve")
    ports = [free_port() for _ in range(5)]
    inference, management, metrics = (f"http://127.0.0.1:{port}" for port in ports[:3])
    config = directory / "config.properties"
    config.write_text(
        f"inference_address={inference}\nmanagement_address={management}\nmetrics_address={metrics}\n"
        f"grpc_inference_port={ports[3]}\ngrpc_management_port={ports[4]}\n"
        f"model_store={store}\nworkflow_store={store}\ndisable_token_authorization=true\n"
    )
    bin_directory = Path(VENV) / "bin"
    environment = {**os.environ, "PATH": f"{bin_directory}:{os.environ['PATH']}", "TEMP": str(directory)}
    for name in ("PYTHONPATH", "TS_CONFIG_FILE"):
        environment.pop(name, None)
    command = [str(bin_directory / "torchserve"), "--start", "--foreground", "--ncs"]
    tree = Tree([*command, "--ts-config", str(config)], environment, directory)

    def answers():
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{inference}/ping").status_code == 200

    try:
        wait_for(answers, timeout_s=300, what="TorchServe")
        yield play(inference, management)
    finally:
        tree.stop()


@pytest.fixture(scope="module")
def ours(start_server, store):
    server = start_server(store, [], ["--disable-token-auth"], workflow_store=str(store))
    return play(server.inference, server.management)


OTHERS = {"register: modelless", "register: as before", "run: several leaves"}


@pytest.mark.parametrize("name", [case.name for case in CASES if case.name not in OTHERS])
def test_the_answer_is_torchserves(theirs, ours, name):
    assert ours[name] == theirs[name]


def test_several_leaves_are_torchserves_in_another_order(theirs, ours):
    their, our = (answers["run: several leaves"] for answers in (theirs, ours))
    assert (our.status, our.type) == (their.status, their.type) == (200, JSON)
    assert json.loads(our.body) == json.loads(their.body)
    assert sorted(our.body.replace(b",", b"").splitlines()) == sorted(
        their.body.replace(b",", b"").splitlines()
    )


def test_a_specification_needs_no_models_here(theirs, ours):
    assert (theirs["register: modelless"].status, ours["register: modelless"].status) == (500, 200)
