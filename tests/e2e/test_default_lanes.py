"""A producer that names no version is answered by the default version, also after set-default."""

from pathlib import Path

import httpx
import pytest
import redis
from support import RunningServer, wait_for

HANDLER = """
def handle(data, context):
    return None if data is None else ["{version}"] * len(data)
"""


@pytest.fixture(scope="module")
def server(serve_models, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    for version in ("1.0", "2.0"):
        config = {"minWorkers": 1, "maxWorkers": 1}
        archive = make_archive(store, "both", HANDLER.replace("{version}", version), config, version)
        archive.rename(store / f"both-{version}.mar")
    running: RunningServer = serve_models(store)
    for version in ("1.0", "2.0"):
        running.wait_until_ready(f"both/{version}")
    return running


def ask(client: redis.Redis) -> bytes:
    """The answer to an entry in the lane without a version."""
    client.delete("both-answers")
    client.xadd("marq:{both}:normal", {"body": b"x", "reply": "both-answers"})
    wait_for(lambda: client.exists("both-answers"), what="the answer")
    [(_, fields)] = client.xrange("both-answers")
    body: bytes = fields[b"body"]
    return body


def test_the_default_version_answers_what_names_no_version(server):
    with redis.Redis.from_url(server.redis_url) as client:
        for version in ("1.0", "2.0", "1.0"):
            url = f"{server.management}/models/both/{version}/set-default"
            httpx.put(url, timeout=60).raise_for_status()
            assert ask(client) == version.encode()
        assert not client.exists("marq:{both}:normal")
        client.delete("both-answers")


def test_its_job_has_the_id_that_the_producer_gave(server):
    with redis.Redis.from_url(server.redis_url) as client:
        client.xadd("marq:{both}:high", {"body": b"x", "job": "1", "id": "mine"})
    wait_for(lambda: server.result("both:mine").status_code == 200, what="the result")
