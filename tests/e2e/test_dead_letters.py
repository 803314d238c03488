"""From a request that kills its replicas to its second life, on a real server."""

import json
import subprocess

import httpx
import pytest
import redis
from support import RunningServer, wait_for

from marq import keys

KILLER = """
import os
import signal


def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    if data is None:
        return None  # noqa: RET501
    if any(row["body"] == "poison" for row in data):
        print("about to run poison", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return [row["body"] for row in data]
"""
FIXED = """
def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    return data and [f"survived {row['body']}" for row in data]
"""
TEXT = {"content-type": "text/plain", "authorization": "Bearer of a secret"}


@pytest.fixture(scope="module")
def server(serve_models, make_archive, tmp_path_factory) -> RunningServer:
    store = tmp_path_factory.mktemp("store")
    one = {"minWorkers": 1, "maxWorkers": 1}
    make_archive(store, "killer", FIXED, one, "2.0").rename(store / "killer2.mar")
    make_archive(store, "killer", KILLER, one)
    running: RunningServer = serve_models(store, ["killer.mar", "killer2.mar"])
    running.wait_until_ready("killer")
    return running


def dead(server: RunningServer, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs `marq dead`."""
    answer = server.command("dead", *arguments)
    assert answer.returncode == code, answer.stdout + answer.stderr
    return answer


@pytest.fixture
def letter(server) -> dict:
    """Of a prediction that has killed three replicas of version 1.0."""
    answer = server.predict("killer/1.0", b"poison", headers=TEXT)
    assert (answer.status_code, answer.json()["message"]) == (500, "Worker died.")
    [letter] = wait_for(lambda: json.loads(dead(server, "list", "killer", "--json").stdout), what="a letter")
    assert letter["request_id"] == answer.headers["x-request-id"]
    return letter


@pytest.fixture
def malformed(server) -> str:
    """The id of a letter that needed no replica's death; it can be replayed."""
    with redis.Redis.from_url(server.redis_url) as connection:
        connection.xadd(
            keys.lane("killer", "1.0"), {"body": "x", "type": "text/plain", "deadline": "tomorrow"}
        )
        [(letter, _)] = wait_for(lambda: connection.xrange(keys.dead_letters("killer")), what="a letter")
    return letter.decode()


def test_a_poisonous_request_is_kept_and_lives_again_in_a_version_that_survives_it(server, letter):
    # Given a letter that says how the request ended
    assert (letter["ending"], letter["attempts"], letter["device"]) == ("signal 9", 3, "cpu")
    assert "given up after 3 attempts" in letter["reason"]
    assert "about to run poison" in letter["log"]
    shown = httpx.get(f"{server.management}/dead-letters/killer/{letter['id']}").json()
    assert (shown["input"], shown["content_type"]) == ("poison", "text/plain")
    # And that the commands show, without secrets
    assert "killer" in dead(server, "list").stdout
    text = dead(server, "show", "killer", letter["id"]).stdout
    for part in ("signal 9", "about to run poison", "Input:\npoison", letter["request_id"]):
        assert part in text
    assert "of a secret" not in text
    assert dead(server, "show", "killer", letter["id"], "--body").stdout.rstrip("\n") == "poison"
    # When it is replayed with the fixed version
    job = dead(server, "replay", "killer", letter["id"], "--version", "2.0").stdout.strip()
    # Then it succeeds, and knows its first life
    assert server.result(job).text == "survived poison"
    record = httpx.get(f"{server.inference}/jobs/{job}").json()
    assert (record["state"], record["version"]) == ("succeeded", "2.0")
    assert record["replay_of"] == letter["request_id"]
    # And the letter is gone
    assert dead(server, "list", "killer").stdout == "No dead letters.\n"


def test_a_request_that_dies_again_keeps_the_link_to_its_first_life(server, letter):
    # When it is replayed with the version that it kills
    done = json.loads(dead(server, "replay", "killer", "--all", "--json").stdout)
    [replayed] = done["replayed"]
    # Then its job fails, and there is another letter of the same request
    assert server.result(replayed["job_id"]).json()["message"] == "Worker died."
    [second] = wait_for(lambda: json.loads(dead(server, "list", "killer", "--json").stdout), what="a letter")
    assert second["id"] != letter["id"]
    assert f"killer:{second['request_id']}" == replayed["job_id"]
    assert second["replay_of"] == letter["request_id"]
    assert (second["attempts"], second["ending"]) == (3, "signal 9")
    # And what is deleted is gone
    assert dead(server, "delete", "killer", second["id"]).stdout == "Deleted: 1\n"


def test_exit_codes_tell_what_went_wrong(server, malformed):
    unknown = dead(server, "show", "killer", "1-1", code=1)
    assert "Dead letter not found: 1-1" in unknown.stderr
    assert dead(server, "delete", "killer", "1-1", "2-2", code=1).stdout == "Deleted: 0\n"
    refused = dead(server, "replay", "killer", "1-1", malformed, "--version", "2.0", code=1)
    assert refused.stdout.startswith("killer:")
    assert "1-1: Dead letter not found" in refused.stderr
    assert "Model not found" in dead(server, "list", "nobody", code=1).stderr
    for wrong in (["replay", "killer"], ["delete", "killer", "--all", "1-1"], ["show", "killer"]):
        dead(server, *wrong, code=2)


def test_nobody_deletes_all_by_a_slip(server, malformed):
    asked = dead(server, "delete", "killer", "--all", code=1)  # without a terminal nobody can say yes
    assert "Delete all dead letters of killer?" in asked.stderr
    assert len(json.loads(dead(server, "list", "killer", "--json").stdout)) == 1
    assert dead(server, "delete", "killer", "--all", "--yes").stdout == "Deleted: 1\n"
