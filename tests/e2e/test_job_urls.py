"""Jobs that name where their body is, and where their result belongs."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from file_site import Site, file_site
from s3_endpoint import s3_endpoint
from support import RunningServer

pytestmark = pytest.mark.slow  # a server of its own
HANDLER = """
def handle(data, context):
    return data and [answer(row["body"]) for row in data]


def answer(body):
    return f"{type(body).__name__} {len(body)} " + str(body[:20])
"""
ASYNC = HANDLER.replace("def handle", "async def handle")
SIZE = 7_000_000  # more than a body may have that is sent


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with file_site() as site:
        yield site


@pytest.fixture(scope="module")
def s3():
    with s3_endpoint() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def server(start_server, make_archive, tmp_path_factory, s3) -> Iterator[RunningServer]:
    store: Path = tmp_path_factory.mktemp("store")
    config = {"minWorkers": 1, "maxWorkers": 1, "batchSize": 4, "maxBatchDelay": 20}
    make_archive(store, "urls", HANDLER, config)
    make_archive(store, "later", ASYNC, {**config, "asyncCommunication": True})
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment().items():
            patch.setenv(name, value)
        running: RunningServer = start_server(
            store, gateway_workers=1, job_url_hosts="127.0.0.1, s3://ours", max_fetched_size=2 * SIZE
        )
    for model in ("urls", "later"):
        running.wait_until_ready(model)
    yield running


def run(server: RunningServer, model: str = "urls", **urls: str) -> httpx.Response:
    headers = {f"X-Marq-{name.title().replace('_', '-')}": url for name, url in urls.items()}
    headers["Prefer"] = "respond-async, wait=60"
    return httpx.post(f"{server.inference}/predictions/{model}", headers=headers, timeout=90)


@pytest.mark.parametrize("model", ["urls", "later"])
def test_the_handler_gets_the_file_and_the_result_is_put(server, site, model):
    site.files["/in"], site.kinds["/in"] = b"a text", "text/plain"
    answer = run(server, model, input_url=f"{site.url}/in", output_url=f"{site.url}/out?signature=secret")
    assert answer.json() == {
        "output_url": f"{site.url}/out", "size": len(site.files["/out"]), "content_type": site.kinds["/out"]
    }  # fmt: skip
    assert site.files["/out"] == b"str 6 a text"


def test_a_file_may_be_larger_than_a_body_that_is_sent_but_not_without_bound(server, site):
    site.files["/large"] = bytes(SIZE)
    assert run(server, input_url=f"{site.url}/large").text.startswith(f"bytearray {SIZE} ")
    site.files["/huge"] = bytes(2 * SIZE + 1)
    answer = run(server, input_url=f"{site.url}/huge")
    assert (answer.status_code, "max_fetched_size" in answer.json()["message"]) == (413, True)


def test_objects_of_s3(server, s3):
    s3.objects["ours/in/file"] = b"an object"
    answer = run(server, input_url="s3://ours/in/file", output_url="s3://ours/out/file")
    assert answer.json()["output_url"] == "s3://ours/out/file"
    assert s3.objects["ours/out/file"] == b"bytearray 9 bytearray(b'an object')"


def test_one_that_fails_leaves_the_others_of_its_batch_alone(server, site):
    site.files["/good"] = b"good"
    jobs = []
    for name in ("good", "missing", "good"):
        headers = {"X-Marq-Input-URL": f"{site.url}/{name}"}
        jobs.append(httpx.post(f"{server.inference}/jobs/urls", headers=headers).json()["job_id"])
    answers = [
        httpx.get(f"{server.inference}/jobs/{job}/result", params={"wait": 60}, timeout=90) for job in jobs
    ]
    assert [answer.status_code for answer in answers] == [200, 502, 200]
    assert "status 404" in answers[1].json()["message"]


def test_a_result_that_cannot_be_put_is_a_failure(server, site):
    site.files["/good"] = b"good"
    answer = run(server, input_url=f"{site.url}/good", output_url=f"{site.url}/forbidden")
    assert (answer.status_code, "status 403" in answer.json()["message"]) == (502, True)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://127.0.0.1/x", "must be a URL"),
        ("s3://theirs/x", "job_url_hosts=s3://theirs"),
        ("s3://ours", "must be a URL"),
        ("http://user@127.0.0.1/x", "must be a URL"),
        ("http://127.0.0.2/x", "127.0.0.2 is not allowed; the server's setting job_url_hosts can name it"),
        ("http://10.0.0.1/x", "10.0.0.1 is not allowed"),
    ],
)
def test_a_url_that_is_not_allowed_is_refused_at_once(server, url, reason):
    answer = run(server, input_url=url)
    assert (answer.status_code, reason in answer.json()["message"]) == (400, True)


def test_other_addresses_are_refused_also_behind_a_redirect(server, site):
    before = len(site.requests)
    port = site.url.rpartition(":")[2]
    for url in (f"http://localhost.localdomain:{port}/x", f"http://127.0.0.2:{port}/x", "http://10.0.0.1/x"):
        assert run(server, input_url=url).status_code in (400, 502)
    assert len(site.requests) == before
    site.redirects["/away"] = f"http://127.0.0.2:{port}/secret"
    answer = run(server, input_url=f"{site.url}/away")
    assert (answer.status_code, "job_url_hosts" in answer.json()["message"]) == (502, True)
    assert site.requests[before:] == ["/away"]
    site.redirects["/on"], site.files["/there"] = "/there", b"there"
    assert run(server, input_url=f"{site.url}/on").status_code == 200


def test_a_job_has_one_body(server, site):
    headers = {"X-Marq-Input-URL": f"{site.url}/good"}
    answer = httpx.post(f"{server.inference}/jobs/urls", content=b"body", headers=headers)
    assert (answer.status_code, "input_url" in answer.json()["message"]) == (400, True)


def test_nothing_is_allowed_unless_it_is_named(shared_server, serve_models, make_archive, tmp_path):
    make_archive(tmp_path, "closed", HANDLER, {"minWorkers": 1, "maxWorkers": 1})
    closed = serve_models(tmp_path)
    closed.wait_until_ready("closed")
    answer = run(closed, "closed", output_url="https://example.org/x")
    assert (answer.status_code, "job_url_hosts" in answer.json()["message"]) == (400, True)
