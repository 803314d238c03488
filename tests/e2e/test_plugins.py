"""A package with plugins, built and installed as a user would, in one real server."""

import base64
import hashlib
import hmac
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import grpc_stubs
import httpx
import pytest
from ports import free_port
from support import wait_for
from workflow_archives import pack_workflow

from gateway.grpc.messages.inference_pb2 import PredictionsRequest
from gateway.grpc.messages.management_pb2 import ListModelsRequest

SECRET = "a secret of thirty-two characters!"
SOURCES = {
    "pyproject.toml": """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "tenants"
version = "2.1"

[project.entry-points."marq.authorizers"]
jwt = "tenants.callers:Jwt"

[project.entry-points."marq.batching"]
by_size = "tenants.batches:BySize"

[project.entry-points."marq.stores"]
attic = "tenants.batches:Attic"

[project.entry-points."marq.observers"]
bill = "tenants.batches:Bill"

[project.entry-points."marq.endpoints"]
tenants = "tenants.routes:Tenants"
""",
    "tenants/__init__.py": "",
    "tenants/callers.py": f'''
import base64, hashlib, hmac, json, time

from marq.plugins.protocols import Access, Allow, Deny


class Jwt:
    """Tokens with the model that their owner may ask (HS256)."""

    protocol = 1
    headers = ("authorization",)

    def decide(self, access: Access):
        if access.route == "/ping":
            return Allow()
        head, _, signature = access.header("authorization").removeprefix("Bearer ").rpartition(".")
        right = base64.urlsafe_b64encode(hmac.digest({SECRET.encode()!r}, head.encode(), "sha256"))
        if not hmac.compare_digest(right.rstrip(b"="), signature.encode()):
            return Deny("This token is not ours.", 401)
        body = head.partition(".")[2]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        if claims["model"] == "boom":
            raise RuntimeError("a claim that breaks the plugin")
        if claims["model"] == "slow":
            time.sleep(600)
        left = claims["exp"] - time.time()
        if left < 0:
            return Deny("This token has expired.", 401)
        if access.plane == "management" or access.model not in ("", claims["model"]):
            return Deny(f"{{claims['sub']}} may ask {{claims['model']}} only.")
        return Allow(valid_for_s=min(left, 60))
''',
    "tenants/batches.py": """
import os
from pathlib import Path


class BySize:
    protocol = 1
    six_came = False

    def wait_s(self, held):
        self.six_came = self.six_came or len(held.rows) == 6
        return 0.0 if self.six_came else 60.0

    def choose(self, held):
        first = held.rows[0].bytes
        return [n for n, row in enumerate(held.rows) if row.bytes == first][: held.batch_size]


class Attic:
    protocol = 1
    schemes = ("attic",)

    def pieces(self, url):
        file = Path(os.environ["ATTIC"], url.removeprefix("attic://"))
        yield file.read_bytes(), file.stat().st_size


class Bill:
    protocol = 1

    def observe(self, finished):
        with Path(os.environ["ATTIC"], "bill").open("a") as file:
            for each in finished:
                print(each.kind, each.model, each.status, each.request_bytes, each.answer_bytes, file=file)
""",
    "tenants/routes.py": """
from fastapi import APIRouter, Request, Response


class Tenants:
    protocol = 1
    plane = "inference"

    def router(self, server):
        api = APIRouter()

        @api.post("/twice/{model}")
        async def twice(model: str, request: Request) -> Response:
            body = await request.body()
            first = await server.predict(model, body)
            second = await server.predict(model, first.body)
            return Response(second.body, second.status)

        @api.get("/sizes")
        async def sizes():
            answer = await server.manage("GET", "/models")
            return {"models": server.models(), "status": answer.status}

        @api.get("/broken")
        async def broken():
            raise RuntimeError("a route that raises")

        return api
""",
}
TOGETHER = """
def handle(data, context):
    bodies = [bytes(row["body"]) for row in data or []]
    return [b",".join(bodies) for _ in bodies]
"""
PORTS = {"inference": free_port(), "management": free_port()}
MODELS = ["echo", "other", "sizes", "stored"]
HANDLER = "def handle(data, context):\n    return [bytes(row['body']) + b'!' for row in data or []]\n"


def build(folder: Path, target: Path) -> None:
    """Builds the package and installs it into a directory, without a network."""
    for name, text in SOURCES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    options = ["--no-build-isolation", "--disable-pip-version-check", "--target", target]
    subprocess.run([*command, *options, folder], check=True)


def encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def token(model: str = "echo", exp: float = 3600, secret: str = SECRET) -> dict[str, str]:
    """The header of a caller who may ask one model."""
    claims = {"sub": "ann", "model": model, "exp": time.time() + exp}
    head = f"{encoded(b'{}')}.{encoded(json.dumps(claims).encode())}"
    signature = hmac.digest(secret.encode(), head.encode(), hashlib.sha256)
    return {"Authorization": f"Bearer {head}.{encoded(signature)}"}


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    target = tmp_path_factory.mktemp("plugins")
    build(tmp_path_factory.mktemp("tenants"), target)
    return target


@pytest.fixture(scope="module")
def attic(tmp_path_factory):
    return tmp_path_factory.mktemp("attic")


@pytest.fixture(scope="module")
def environment():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def server(plugins, attic, start_server, make_archive, environment, store):
    for name in ("echo", "other"):
        make_archive(store, name, HANDLER, {"minWorkers": 1, "maxWorkers": 1})
    one = {"minWorkers": 1, "maxWorkers": 1}
    sizes = {"batching": "by_size", "batchSize": 8, "maxBatchDelay": 60_000, **one}
    make_archive(store, "sizes", TOGETHER, sizes)
    make_archive(attic, "stored", HANDLER, one)
    environment.setenv("ATTIC", str(attic))
    models = ["echo.mar", "other.mar", "sizes.mar", "attic://stored.mar"]
    ports = {f"grpc_{plane}_port": port for plane, port in PORTS.items()}
    server = start_server(store, models, ["--strict"], plugins_path=str(plugins), enable_grpc=True, **ports)
    wait_for(lambda: server.predict("echo", b"x", headers=token()).status_code == 200, log=server.log)
    return server


def ask(server, path, headers=None, method="GET", base=None, **options):
    return httpx.request(
        method, f"{base or server.inference}{path}", headers=headers or {}, timeout=60, **options
    )


def test_the_command_lists_them(server, plugins):
    answer = server.command("plugins", "--json")
    found = {each["name"]: each for each in json.loads(answer.stdout)}
    assert answer.returncode == 0
    assert found["jwt"]["hooks"] == "every request, by its headers authorization"
    assert found["tenants"]["hooks"] == "the inference address: /twice/{model}, /sizes, /broken"
    assert {(each["package"], each["version"], each["place"]) for each in found.values()} == {
        ("tenants", "2.1", str(plugins))
    }


def test_a_caller_gets_what_the_token_says(server):
    assert server.predict("echo", b"x", headers=token()).content == b"x!"
    for _ in range(3):  # the decision is kept: these take the fast path
        assert server.predict("echo", b"x", headers=(mine := token())).content == b"x!"
        assert server.predict("echo", b"y", headers=mine).content == b"y!"
    refused = server.predict("other", b"x", headers=token())
    assert (refused.status_code, refused.json()["message"]) == (403, "ann may ask echo only.")
    assert server.predict("other", b"x", headers=token("other")).content == b"x!"


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "This token is not ours."),
        (token(secret="another"), "This token is not ours."),
        (token(exp=-5), "This token has expired."),
    ],
    ids=["none", "forged", "expired"],
)
def test_a_caller_without_a_good_token_is_refused_everywhere(server, headers, message):
    for path in ("/predictions/echo", "/jobs/echo", "/v2/models/echo/infer", "/twice/echo"):
        answer = ask(server, path, headers, "POST", content=b"x")
        assert (answer.status_code, answer.json()["message"]) == (401, message), path
    answer = ask(server, "/models", headers, base=server.management)
    assert (answer.status_code, answer.json()["message"]) == (401, message)


def test_a_form_is_judged_by_the_model_that_it_names(server):
    for model, status in (("echo", 200), ("other", 403)):
        form = {"model_name": (None, model), "body": (None, "x")}
        assert ask(server, "/invocations", token(), "POST", files=form).status_code == status


def test_grpc_is_judged_like_rest(server):
    def ask(model, headers):
        metadata = [("authorization", headers["Authorization"])]
        with grpc.insecure_channel(f"127.0.0.1:{PORTS['inference']}") as channel:
            request = PredictionsRequest(model_name=model, input={"body": b"x"})
            return grpc_stubs.inference(channel).Predictions(request, timeout=60, metadata=metadata)

    assert ask("echo", token()).prediction == b"x!"
    for model, headers, code, text in (
        ("other", token(), grpc.StatusCode.PERMISSION_DENIED, "ann may ask echo only."),
        ("echo", token(secret="another"), grpc.StatusCode.UNAUTHENTICATED, "This token is not ours."),
    ):
        with pytest.raises(grpc.RpcError) as raised:
            ask(model, headers)
        assert raised.value.code() == code
        assert raised.value.details().startswith(text)
    with grpc.insecure_channel(f"127.0.0.1:{PORTS['management']}") as channel:
        metadata = [("authorization", token()["Authorization"])]
        with pytest.raises(grpc.RpcError) as raised:
            grpc_stubs.management(channel).ListModels(ListModelsRequest(), timeout=60, metadata=metadata)
    assert (raised.value.code(), raised.value.details()) == (
        grpc.StatusCode.PERMISSION_DENIED, "ann may ask echo only.",
    )  # fmt: skip


def test_management_is_judged_as_such(server):
    answer = ask(server, "/models", token(), base=server.management)
    assert (answer.status_code, answer.json()["type"]) == (403, "AccessDeniedException")


def test_jobs_are_judged_by_their_model(server):
    assert ask(server, "/jobs/other", token(), "POST", content=b"x").status_code == 403
    job = ask(server, "/jobs/echo", token(), "POST", content=b"x").json()["job_id"]
    assert ask(server, f"/jobs/{job}/result?wait=55", token()).content == b"x!"
    assert ask(server, f"/jobs/{job}", token("other")).status_code == 403
    assert ask(server, "/jobs?model=other", token()).status_code == 403


def test_the_commands_of_this_host_need_no_such_token(server):
    assert server.command("models").returncode == 0


def test_an_authorizer_that_raises_refuses_and_is_logged(server):
    answer = server.predict("echo", b"x", headers=token("boom"))
    assert (answer.status_code, answer.json()["type"]) == (503, "ServiceUnavailableException")
    wait_for(lambda: "a claim that breaks the plugin" in server.log.read_text(), log=server.log)


def test_an_authorizer_that_hangs_refuses_and_others_are_answered(server):
    assert server.predict("echo", b"x", headers=token("slow")).status_code == 503
    assert server.predict("echo", b"x", headers=token()).status_code == 200
    wait_for(lambda: "has not decided within 5 s" in server.log.read_text(), log=server.log)


def test_an_endpoint_can_predict_and_manage(server):
    assert ask(server, "/twice/echo", token(), "POST", content=b"x").content == b"x!!"
    assert ask(server, "/twice/missing", token("missing"), "POST", content=b"x").status_code == 404
    assert ask(server, "/sizes", token()).json() == {"models": MODELS, "status": 200}


def test_an_endpoint_that_raises_answers_500(server):
    answer = ask(server, "/broken", token())
    assert (answer.status_code, answer.json()["message"]) == (500, "Internal server error.")


def test_the_start_is_refused_with_the_name_of_a_plugin_that_cannot_be_used(plugins, tmp_path, server):
    (tmp_path / "store").mkdir()
    config = tmp_path / "config.properties"
    config.write_text(f"plugins_path={plugins},{tmp_path}/more\n")
    info = tmp_path / "more" / "broken-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[marq.observers]\naudit = broken:Audit\n")
    started = server.marq("start", "--state-dir", str(tmp_path / "state"), "--ts-config", str(config))
    assert started.returncode == 1
    assert "marq.observers audit (package broken 1.0" in started.stderr
    assert "No module named 'broken'" in started.stderr
    assert "plugins_left_out=audit" in started.stderr


def test_a_policy_puts_rows_together(server):
    bodies, mine = [b"a", b"long", b"b", b"text", b"c", b"more"], token("sizes")
    with ThreadPoolExecutor(len(bodies)) as pool:
        answers = list(pool.map(lambda body: server.predict("sizes", body, headers=mine).content, bodies))
    assert sorted(answers[0].split(b",")) == [b"a", b"b", b"c"]
    assert sorted(answers[1].split(b",")) == [b"long", b"more", b"text"]


def test_an_archive_comes_from_a_store(server):
    assert server.predict("stored", b"x", headers=token("stored")).content == b"x!"


def test_an_observer_sees_what_was_answered(server, attic):
    server.predict("echo", b"for the bill", headers=token())
    wait_for(lambda: "prediction echo 200 12 13" in bill(attic), log=server.log)


def test_an_observer_sees_a_run_of_a_workflow_once(server, store, attic):
    source = "def shout(data, context):\n    return [bytes(row['body']) + b'!' for row in data or ()]\n"
    pack_workflow(store, "loud", "dag:\n  shout: []\n", source)
    assert server.command("workflow", "register", "loud.war").returncode == 0
    try:
        assert ask(server, "/wfpredict/loud", token("loud"), "POST", content=b"x").content == b"x!"
        lines = ["workflow loud 200 1 2"]
        wait_for(lambda: [each for each in bill(attic) if " loud" in each] == lines, log=server.log)
    finally:
        server.command("workflow", "delete", "loud")


def test_an_observer_sees_that_a_job_was_queued_and_its_end(server, attic):
    job = server.submit("echo", b"for later", headers=token())
    assert ask(server, f"/jobs/{job}/result", token(), params={"wait": 60}).content == b"for later!"
    wait_for(lambda: {"job echo 202 9 0", "job echo 200 9 10"} <= {*bill(attic)}, log=server.log)


def bill(attic):
    file = attic / "bill"  # there after the first finished request
    return file.read_text().splitlines() if file.exists() else []
