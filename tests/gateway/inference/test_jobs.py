"""The routes of jobs without a server: the application, a real Redis, and a replica in a thread."""

import json

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from thread_replica import make_spec

from gateway.inference import job_events, job_lists, job_submission, jobs
from marq import keys
from marq.connections import clients
from marq.errors import ServiceError
from marq.registry.models import Registry


@pytest.fixture
async def http(make):
    app = FastAPI()
    app.include_router(job_submission.router(make(), make.jobs))
    app.include_router(job_lists.router(make(), make.jobs))
    app.include_router(jobs.router(make(), make.jobs))
    app.include_router(job_events.router(make.jobs))

    @app.exception_handler(ServiceError)
    async def answer(_request, error):
        return JSONResponse({"message": error.message}, error.status)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        yield http


async def submit(http, path="/jobs/m", body=b"abc", **headers):
    return await http.post(path, content=body, headers=headers)


async def test_a_job_is_submitted_watched_and_fetched(http, replica):
    submitted = await submit(http)
    job = submitted.json()["job_id"]
    assert (submitted.status_code, submitted.headers["location"]) == (202, f"/jobs/{job}")
    record = (await http.get(f"/jobs/{job}?wait=20")).json()
    assert (record["state"], record["result"], record["version"]) == (
        "succeeded",
        f"/jobs/{job}/result",
        "1.0",
    )
    result = await http.get(f"/jobs/{job}/result")
    assert (result.status_code, result.content) == (200, b"cba")
    again = await http.delete(f"/jobs/{job}")
    assert (again.status_code, "has finished" in again.json()["message"]) == (409, True)


async def test_the_result_has_the_handlers_status(http, replica):
    job = (await submit(http, body=b"?")).json()["job_id"]
    assert (await http.get(f"/jobs/{job}/result?wait=20")).status_code == 418


async def test_a_queued_job_is_cancelled(http):
    job = (await submit(http, "/jobs/m/1.0")).json()["job_id"]
    assert (await http.get(f"/jobs/{job}/result")).status_code == 409
    cancelled = await http.delete(f"/jobs/{job}")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert "result" not in cancelled.json()
    assert (await http.get(f"/jobs/{job}/result")).status_code == 409


async def test_an_entry_of_a_job_says_so_and_has_the_requests_deadline(http, redis_url):
    await submit(http, **{"content-type": "text/plain", "x-request-timeout": "60"})
    with clients.client(redis_url) as client:
        [(_, fields)] = client.xrange(keys.lane("m", "1.0"))
    assert (fields[b"job"], fields[b"type"], fields[b"path"], fields[b"body"]) == (
        b"1", b"text/plain", b"", b"abc",
    )  # fmt: skip
    assert len(fields[b"deadline"]) == 13


async def test_a_key_gives_the_same_job_and_refuses_another_request(http):
    first, second = [await submit(http, **{"idempotency-key": "mine"}) for _ in range(2)]
    assert first.json() == second.json()
    assert (await submit(http, body=b"other", **{"idempotency-key": "mine"})).status_code == 422
    assert (await submit(http, "/jobs/m/1.0", **{"idempotency-key": "mine"})).status_code == 422


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/jobs/other", b"x", {}, 404),
        ("/jobs/m/9", b"x", {}, 404),
        ("/jobs/m", b"x" * 1001, {}, 413),
        ("/jobs/m", b"x", {"x-request-timeout": "soon"}, 400),
        ("/jobs/m", b"x", {"idempotency-key": ""}, 422),
    ],
)
async def test_a_job_that_cannot_be_queued_is_refused(http, path, body, headers, status):
    assert (await submit(http, path, body, **headers)).status_code == status


async def test_an_unknown_job_is_not_found(http):
    for job in ("m:nope", "nonsense"):
        assert (await http.get(f"/jobs/{job}")).status_code == 404


async def test_a_typo_in_what_is_to_be_cancelled_cancels_nothing(http):
    job = (await submit(http, **{"x-marq-tags": "night"})).json()["job_id"]
    refused = await http.delete("/jobs?model=m&tags=nightly")
    assert refused.status_code == 422
    assert refused.json()["message"] == "Parameter tags has no effect: did you mean tag?"
    assert (await http.get(f"/jobs/{job}")).json()["state"] == "queued"


@pytest.mark.parametrize("query", ["tag=", "version=", "tag=a%20b", "tag=night&tag=day", "state="])
async def test_a_filter_that_is_empty_or_cannot_be_one_cancels_nothing(http, query):
    job = (await submit(http, **{"x-marq-tags": "night"})).json()["job_id"]
    assert (await http.delete(f"/jobs?model=m&{query}")).status_code == 422
    assert (await http.get(f"/jobs?model=m&{query}")).status_code == 422
    assert (await http.get(f"/jobs/{job}")).json()["state"] == "queued"


async def test_jobs_are_listed_page_by_page_with_counts(http):
    ids = [(await submit(http)).json()["job_id"] for _ in range(3)]
    await http.delete(f"/jobs/{ids[0]}")
    first = (await http.get("/jobs?model=m&limit=2")).json()
    assert [job["job_id"] for job in first["jobs"]] == [ids[2], ids[1]]
    assert (first["counts"]["queued"], first["counts"]["cancelled"]) == (2, 1)
    second = (await http.get(first["next"])).json()
    assert [(job["job_id"], job["state"]) for job in second["jobs"]] == [(ids[0], "cancelled")]
    assert "next" not in second
    # Without a model: those of all models
    everything = (await http.get("/jobs?state=queued")).json()
    assert [job["job_id"] for job in everything["jobs"]] == [ids[2], ids[1]]


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("model=nope", 404, "Model not found: nope"),
        ("after=nonsense", 400, "Parameter after must be the `next` of an earlier page, not 'nonsense'"),
        ("state=queued&state=failed", 422, "Parameter state is given twice; it has one value."),
    ],
)
async def test_a_wrong_list_is_refused(http, query, status, message):
    refused = await http.get(f"/jobs?{query}")
    assert (refused.status_code, refused.json()["message"]) == (status, message)
    assert (await http.get("/jobs?state=lost")).status_code == 422
    assert (await http.get("/jobs?limit=0")).status_code == 422


async def test_a_queued_job_has_a_position_and_once_the_rate_is_known_a_time(http, make):
    first, second = [(await submit(http)).json()["job_id"] for _ in range(2)]
    assert (await http.get(f"/jobs/{second}")).json()["position"] == 2
    assert "expected_start" not in (await http.get(f"/jobs/{first}")).json()
    backlog = make.routes.find("m", "1.0").backlog
    for second_of_clock in range(3):
        backlog.note(10, second_of_clock * 2, float(second_of_clock))  # two rows a second
    answer = (await http.get(f"/jobs/{second}")).json()
    assert answer["expected_start"] > answer["queued"]


async def test_a_job_over_http_has_the_webhook_of_its_header_or_of_its_model(make, http, redis_url):
    with clients.client(redis_url) as client:
        hooked = make_spec("hooked", min_workers=1, webhook_url="https://example.org/model")
        Registry(client).register(hooked)
        await make.routes.refresh()
        jobs = [
            await submit(http, "/jobs/hooked"),
            await submit(http, "/jobs/hooked", **{"x-marq-webhook": "https://example.org/job"}),
            await submit(http, "/jobs/m"),
        ]
        records = [client.hgetall(keys.job(*each.json()["job_id"].split(":"))) for each in jobs]
    assert [record.get(b"webhook") for record in records] == [
        b"https://example.org/model", b"https://example.org/job", None,
    ]  # fmt: skip
    refused = await submit(http, **{"x-marq-webhook": "ftp://example.org"})
    assert (refused.status_code, "webhook must be a URL" in refused.json()["message"]) == (400, True)


async def test_the_events_of_a_job_are_sent_until_it_has_ended(http, replica):
    job = (await submit(http)).json()["job_id"]
    answer = await http.get(f"/jobs/{job}/events")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    *_, last = answer.text.strip().split("\n\n")
    lines = dict(line.split(": ", 1) for line in last.split("\n"))
    assert (lines["event"], json.loads(lines["data"])["state"]) == ("state", "succeeded")
    # A browser that has had the last one connects again, and learns that there are no more
    again = await http.get(f"/jobs/{job}/events", headers={"Last-Event-ID": lines["id"]})
    assert (again.status_code, again.content) == (204, b"")
    assert (await http.get("/jobs/m:none/events")).status_code == 404
