"""The files of docs/contract: golden entries and replies, schemas, the AsyncAPI document."""

import json
import shutil
import subprocess
from pathlib import Path

import jsonschema_rs
import pytest
import yaml
from support import wait_for
from thread_replica import make_spec

from marq import keys
from marq.contract import lines
from marq.contract.checking import check
from marq.queue.entries import VERSION
from marq.queue.replies.entries import Reply, decode_replies
from marq.registry import lanes

DOCS = Path(__file__).parents[3] / "docs"
REQUEST, REPLY = (
    json.loads((DOCS / f"contract/{name}.schema.json").read_text()) for name in ("request", "reply")
)


def read(name):
    return [json.loads(line) for line in (DOCS / f"contract/{name}.jsonl").read_text().splitlines()]


REQUESTS, REPLIES = read("requests"), read("replies")
GOOD = [each for each in REQUESTS if "fault" not in each]
names = {"ids": lambda each: each["name"]}


@pytest.mark.parametrize("golden", REQUESTS, **names)
def test_each_golden_request_is_judged_as_it_says(golden):
    entry = lines.parse(json.dumps(golden))
    verdict = check(entry.lane, entry.fields)
    assert golden.get("fault", "") in verdict.fault
    assert verdict.is_good == ("fault" not in golden)
    assert len(verdict.warnings) == golden.get("warnings", 0)


@pytest.mark.parametrize("golden", GOOD, **names)
def test_each_good_request_is_answered(golden, client, registry, start_replica):
    entry = lines.parse(json.dumps(golden))
    spec = make_spec(entry.lane.partition("{")[2].partition("}")[0])
    lanes.create(client, spec)
    start_replica(spec=spec)
    added = client.xadd(entry.lane, dict(zip(entry.fields[::2], entry.fields[1::2], strict=True)))
    fields = golden["fields"]
    request_id = fields.get("id", added.decode())
    body = dict(zip(entry.fields[::2], entry.fields[1::2], strict=True))[b"body"]
    if "reply" in fields:
        wait_for(lambda: client.xlen("mine") == 1, what="the reply")
        [(_, reply)] = client.xrange("mine")
        flat = [each for pair in reply.items() for each in pair]
        [found] = decode_replies(flat)
        assert (found.id, found.status, found.body) == (request_id.encode(), 200, body)
    elif "job" in fields:
        record = keys.job(spec.name, request_id)
        wait_for(lambda: client.hget(record, "state") == b"succeeded", what="the job")
        assert client.hget(record, "body") == body
    else:
        wait_for(lambda: client.xlen(entry.lane) == 0, what="an empty lane")


@pytest.mark.parametrize("golden", REPLIES, **names)
def test_each_golden_reply_is_read_as_it_says(golden):
    [reply] = decode_replies(lines.parse(json.dumps(golden)).fields)
    found = {name: getattr(reply, name) for name in ("status", "more")}
    assert golden["reads"] == {**found, "id": reply.id.decode(), "body": reply.body.decode()}


def test_replies_are_written_as_the_golden_ones():
    golden = lines.parse(json.dumps(REPLIES[0])).fields
    assert Reply(b"r-1", 200, b'{"digit": 7}', b'{"content-type": "application/json"}').fields() == golden


def test_the_schemas_accept_what_is_good_and_refuse_faults():
    request = jsonschema_rs.validator_for(REQUEST)
    reply = jsonschema_rs.validator_for(REPLY)
    assert all(request.is_valid(each["fields"]) for each in GOOD)
    assert all(reply.is_valid(each["fields"]) for each in REPLIES)
    wrong = [each["name"] for each in REQUESTS if "fault" in each and each["fault"] != "lane"]
    accepted = [
        each["name"] for each in REQUESTS if each["name"] in wrong and request.is_valid(each["fields"])
    ]
    assert accepted == []


def test_the_asyncapi_document_names_what_exists():
    document = yaml.safe_load((DOCS / "asyncapi.yaml").read_text())
    assert document["info"]["version"] == f"{VERSION}.0.0"
    lane = document["channels"]["lane"]
    wanted = keys.lane("digits", "1.0", keys.HIGH)
    assert lane["address"].format(model="{digits}", lane="high", version="1.0") == wanted
    assert lane["parameters"]["lane"]["enum"] == list(keys.LANES)
    assert document["channels"]["finished"]["address"].format(model="{digits}") == keys.finished("digits")
    for message in document["components"]["messages"].values():
        assert (DOCS / message["payload"]["$ref"]).is_file()


@pytest.mark.slow  # installs AsyncAPI's own schemas
def test_the_asyncapi_document_is_valid(tmp_path):
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    subprocess.run(["npm", "install", "--silent", "--prefix", tmp_path, "@asyncapi/specs@6"], check=True)
    document = yaml.safe_load((DOCS / "asyncapi.yaml").read_text())
    schema = tmp_path / f"node_modules/@asyncapi/specs/schemas/{document['asyncapi']}.json"
    jsonschema_rs.validator_for(json.loads(schema.read_text())).validate(document)
