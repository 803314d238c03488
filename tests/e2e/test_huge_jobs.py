"""Jobs with bodies and results of 256 MB: Redis and the gateway do not grow, and a replica has them once."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import redis
from file_site import Site, file_site
from support import RunningServer, wait_for

pytestmark = pytest.mark.slow  # a server of its own
SIZE = 256_000_000
ROOM = 100_000_000  # of a process without a large body
HANDLER = """
import re
from pathlib import Path


def handle(data, context):
    return data and [answer(row, context) for row in data]


def answer(row, context):
    [body] = row.values()
    if context.get_request_header(0, "x-want") == "large":
        return b"x" * len(body)
    peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
    return {"kind": type(body).__name__, "size": len(body), "peak": peak}
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with file_site() as site:
        yield site


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path: Path = tmp_path_factory.mktemp("body") / "scan.tiff"
    path.write_bytes(bytes(SIZE))
    return path


@pytest.fixture(scope="module")
def server(start_server, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    make_archive(store, "huge", HANDLER, {"minWorkers": 1, "maxWorkers": 1})
    limits = {"max_request_size": SIZE + 1000, "max_response_size": SIZE}
    running: RunningServer = start_server(store, gateway_workers=1, job_url_hosts="127.0.0.1", **limits)
    running.wait_until_ready("huge")
    return running


@pytest.fixture
def flat(server) -> Iterator[None]:
    """Redis has not grown when the test ends, nor has a gateway, and no body is left."""
    with redis.Redis.from_url(server.redis_url) as client:
        before = client.info("memory")["used_memory"]
        yield
        assert client.info("memory")["used_memory_peak"] - before < 10_000_000
    processes = psutil.Process(server.process.pid).children(recursive=True)
    gateways = [process for process in processes if "gateway" in process.cmdline()]
    assert 0 < max(process.memory_info().rss for process in gateways) < 2 * ROOM
    store = server.state_dir / "job-payloads"
    wait_for(lambda: not list(store.glob("*/*.b*")), what="the end of the bodies")


def curl(server: RunningServer, *arguments: object) -> str:
    command = [
        "curl",
        "--silent",
        "--show-error",
        "--fail",
        *map(str, arguments),
        f"{server.inference}/jobs/huge",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.partition('"job_id":"')[2].partition('"')[0]


def by_url(server: RunningServer, **headers: str) -> str:
    answer = httpx.post(f"{server.inference}/jobs/huge", headers=headers)
    return str(answer.raise_for_status().json()["job_id"])


@pytest.mark.usefixtures("flat")
def test_a_body_that_is_sent(server, file):
    answer = server.result(curl(server, "--upload-file", file)).json()
    assert (answer["kind"], answer["size"]) == ("bytearray", SIZE)
    assert answer["peak"] < SIZE + ROOM


@pytest.mark.usefixtures("flat")
def test_a_body_of_a_client_that_may_wait(server, file):
    headers = {"Prefer": "respond-async, wait=60"}
    with file.open("rb") as body:
        answer = httpx.post(f"{server.inference}/predictions/huge", content=body, headers=headers, timeout=90)
    assert (answer.json()["kind"], answer.json()["size"]) == ("bytearray", SIZE)


@pytest.mark.usefixtures("flat")
def test_a_form_with_a_file(server, file):
    answer = server.result(curl(server, "--form", f"scan=@{file}")).json()
    assert (answer["kind"], answer["size"]) == ("bytearray", SIZE)
    assert answer["peak"] < 2 * SIZE + ROOM  # the form, and the file in it


@pytest.mark.usefixtures("flat")
def test_a_body_at_a_url(server, site, file):
    site.files["/in"] = file.read_bytes()
    answer = server.result(by_url(server, **{"X-Marq-Input-URL": f"{site.url}/in"})).json()
    assert (answer["kind"], answer["size"]) == ("bytearray", SIZE)
    assert answer["peak"] < SIZE + ROOM


@pytest.mark.usefixtures("flat")
def test_a_result(server, file):
    answer = server.result(curl(server, "--upload-file", file, "--header", "X-Want: large"))
    assert answer.content == b"x" * SIZE


@pytest.mark.usefixtures("flat")
def test_a_result_that_belongs_to_a_url(server, site):
    headers = {
        "X-Marq-Input-URL": f"{site.url}/in",
        "X-Marq-Output-URL": f"{site.url}/out",
        "X-Want": "large",
    }
    assert server.result(by_url(server, **headers)).json()["size"] == SIZE
    assert site.files["/out"] == b"x" * SIZE
    # Of the next job the replica has the body alone again
    answer = server.result(by_url(server, **{"X-Marq-Input-URL": f"{site.url}/in"})).json()
    assert answer["peak"] < 2 * SIZE + ROOM
