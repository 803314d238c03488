"""Many jobs in one request, over HTTP."""

import json
import socket
from pathlib import Path

import handlers
import httpx
import pytest
from gate import closed
from support import RunningServer, wait_for

LINES = {"content-type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def server(serve_models, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    for name, source in (("echo", handlers.ECHO), ("slow", handlers.SLOW)):
        make_archive(store, name, source, {"minWorkers": 1, "maxWorkers": 1, "batchSize": 8})
    running: RunningServer = serve_models(store)
    for name in ("echo", "slow"):
        running.wait_until_ready(name)
    return running


def send(server: RunningServer, model: str, body: object, **headers: str) -> list[dict]:
    """The lines of the answer to a batch; the last one has the totals."""
    given = {**LINES, **{name.replace("_", "-"): value for name, value in headers.items()}}
    answer = httpx.post(f"{server.inference}/jobs/{model}:batch", content=body, headers=given, timeout=60)
    assert (answer.status_code, answer.headers["content-type"]) == (202, "application/x-ndjson"), answer.text
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.headers["location"] == f"/jobs/groups/{lines[-1]['group']}"
    return lines


def group_of(server: RunningServer, group: str) -> dict:
    return httpx.get(f"{server.inference}/jobs/groups/{group}", timeout=60).raise_for_status().json()


def test_each_line_is_a_job_and_a_bad_one_does_not_stop_the_others(server: RunningServer) -> None:
    *answers, total = send(server, "echo", b'{"n": 1}\n\nnot json\n"four"\n5', x_marq_tags="night")
    # Then each line has its number, and the bad one its reason
    assert [answer["line"] for answer in answers] == [1, 3, 4, 5]
    assert answers[1]["error"]["code"] == 400
    assert "not a JSON value" in answers[1]["error"]["message"]
    assert (total["queued"], total["refused"]) == (3, 1)
    # And the jobs have the lines as their bodies
    results = [server.result(answer["job_id"]) for answer in answers if "job_id" in answer]
    assert [result.json() for result in results[:1]] == [{"n": 1}]
    assert results[1].text == "four"
    # And the group counts them
    group = wait_for(lambda: (found := group_of(server, total["group"]))["finished"] and found)
    assert (group["jobs"], group["counts"]["succeeded"]) == (3, 3)
    listed = httpx.get(f"{server.inference}{group['list']}").json()["jobs"]
    assert {job["job_id"] for job in listed} == {answer.get("job_id") for answer in answers} - {None}
    assert all("night" in job["tags"] for job in listed)


def test_the_events_of_a_group_end_with_its_last_job(server: RunningServer) -> None:
    *_, total = send(server, "echo", b"1\n2\n3")
    url = f"{server.inference}/jobs/groups/{total['group']}/events"
    events = httpx.get(url, timeout=60).raise_for_status().text  # until its end
    assert "event: finished" in events
    assert '"succeeded": 3' in events.split("event: finished")[1]
    # And the ends of all jobs of a model are events, too
    with httpx.stream("GET", f"{server.inference}/jobs/events?model=echo&tag=mine", timeout=60) as stream:
        lines = stream.iter_lines()
        next(line for line in lines if line == "event: open")
        job = server.submit("echo", b"1", headers={"x-marq-tags": "mine"})
        data = next(json.loads(line[6:]) for line in lines if line.startswith('data: {"job_id"'))
    assert (data["job_id"], data["state"], data["tags"]) == (job, "succeeded", ["mine"])
    assert httpx.get(f"{server.inference}/jobs/events?model=none").status_code == 404


def test_the_ids_come_while_the_lines_are_still_sent(server: RunningServer) -> None:
    body = b"\n".join(b'{"n": %d}' % number for number in range(250))
    host, port = httpx.URL(server.inference).host, httpx.URL(server.inference).port
    with socket.create_connection((host, port), timeout=60) as connection:
        head = "POST /jobs/echo:batch HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
        connection.sendall(f"{head}content-type: application/x-ndjson\r\n\r\n".encode())
        connection.sendall(b"%x\r\n%b\n\r\n" % (len(body) + 1, body))
        received = b""
        while b'"line":250' not in received:
            received += (data := connection.recv(65536))
            assert data, received
        connection.sendall(b"0\r\n\r\n")
        while b'"queued":250' not in received:
            received += (data := connection.recv(65536))
            assert data, received


def test_each_part_of_a_multipart_body_is_a_job_of_its_type(server: RunningServer) -> None:
    files = [
        ("a", ("a.txt", b"headers", "text/plain")),
        ("b", ("b.bin", b"\x00\n\xff", "application/octet-stream")),
        ("c", ("c.json", b'{"status": 418}', "application/json")),
    ]
    answer = httpx.post(f"{server.inference}/jobs/echo/1.0:batch", files=files, timeout=60)
    *answers, total = [json.loads(line) for line in answer.text.splitlines()]
    assert (total["queued"], total["refused"]) == (3, 0), answer.text
    results = [server.result(each["job_id"]) for each in answers]
    assert results[0].json()["path"] == ""
    assert results[1].content == b"\x00\n\xff"
    assert (results[2].status_code, results[2].text) == (418, "short and stout")


def test_a_batch_with_a_key_is_queued_once(server: RunningServer) -> None:
    body = b'{"n": 1}\n{"n": 2}\n'
    first = send(server, "echo", body, idempotency_key="nightly-7")
    # When it is sent again, with more lines
    again = send(server, "echo", body + b'{"n": 3}\n', idempotency_key="nightly-7")
    # Then the jobs are the same, and the group has the new one, too
    assert again[:2] == first[:2]
    assert again[-1]["group"] == first[-1]["group"]
    assert group_of(server, again[-1]["group"])["jobs"] == 3


def test_one_call_cancels_the_group_and_no_other_job(server: RunningServer, tmp_path) -> None:
    with closed(tmp_path / "gate") as gate:
        other = server.submit("slow", f"hold {gate}".encode(), headers={"content-type": "application/x"})
        wait_for(lambda: httpx.get(f"{server.inference}/jobs/{other}").json()["state"] == "running")
        total = send(server, "slow", b"1\n2\n3\n", x_marq_priority="low")[-1]
        url = f"{server.inference}/jobs/groups/{total['group']}"
        assert httpx.delete(url).json() == {"cancelled": 3, "remaining": 0}
        assert group_of(server, total["group"])["counts"]["cancelled"] == 3
    assert server.result(other).text == "done"


REFUSED = [
    ("echo", {"content-type": "image/png"}, 415, "A batch is JSON lines"),
    ("echo", {"content-type": "multipart/form-data"}, 400, "must name the boundary"),
    ("echo", {**LINES, "x-marq-priority": "urgent"}, 400, "priority must be one of"),
    ("echo", {**LINES, "x-marq-tags": "a,b,c,d,e,f,g,h"}, 400, "up to 7"),
    ("nothing", LINES, 404, "Model not found: nothing"),
]


@pytest.mark.parametrize(("model", "headers", "status", "reason"), REFUSED)
def test_what_is_no_batch_is_refused(server: RunningServer, model, headers, status, reason) -> None:
    answer = httpx.post(f"{server.inference}/jobs/{model}:batch", content=b"1\n", headers=headers)
    assert (answer.status_code, reason in answer.json()["message"]) == (status, True), answer.text


def test_an_unknown_group_is_a_404(server: RunningServer) -> None:
    for group in ("echo:none", "none"):
        for method in ("GET", "DELETE"):
            answer = httpx.request(method, f"{server.inference}/jobs/groups/{group}")
            assert (answer.status_code, "Group not found" in answer.text) == (404, True), answer.text
