"""Webhooks of a server: over HTTP, from the clients and the command line, while gateways are killed."""

import json
import os
import signal
from pathlib import Path

import handlers
import httpx
import psutil
import pytest
from support import RunningServer, wait_for
from webhook_receiver import receiving

import marq

TEXT = {"content-type": "text/plain"}


@pytest.fixture(scope="module")
def server(start_server, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    make_archive(store, "echo", handlers.ECHO, {"minWorkers": 1, "maxWorkers": 1})
    running: RunningServer = start_server(store, webhook_allowed_hosts="127.0.0.1", gateway_workers=2)
    running.wait_until_ready("echo")
    return running


def test_a_job_over_http_has_a_webhook(server: RunningServer) -> None:
    with receiving() as receiver:
        headers = {**TEXT, "x-marq-webhook": receiver.url, "x-marq-webhook-events": "succeeded"}
        job = server.submit("echo", b"x", headers=headers)
        (got,) = wait_for(lambda: receiver.received, what="the webhook")
        assert got.json["data"]["job_id"] == job
        assert got.json["data"]["state"] == "succeeded"
        assert server.result(job).status_code == 200


def test_clients_and_commands_give_webhooks(server: RunningServer, tmp_path: Path) -> None:
    body = tmp_path / "body.txt"
    body.write_text("x")
    with receiving() as receiver:
        with marq.Client(server.redis_url) as client:
            first = client.submit("echo", b"x", webhook=receiver.url).id
        second = server.command("submit", "echo", str(body), "--webhook", receiver.url).stdout.strip()
        wait_for(lambda: len(receiver.received) == 2, what="the webhooks")
        assert {each.json["data"]["job_id"] for each in receiver.received} == {first, second}


def test_a_batch_has_one_webhook_and_its_jobs_have_messages_about_named_events(
    server: RunningServer,
) -> None:
    for events, messages in (("", 1), ("succeeded", 3), ("failed", 1)):
        with receiving() as receiver:
            headers = {"content-type": "application/x-ndjson", "x-marq-webhook": receiver.url}
            headers |= {"x-marq-webhook-events": events} if events else {}
            answer = httpx.post(f"{server.inference}/jobs/echo:batch", content=b"1\n2\n", headers=headers)
            *lines, total = map(json.loads, answer.text.splitlines())
            wait_for(lambda: len(receiver.received) == messages, what="the webhooks")  # noqa: B023
            got = [each.json for each in receiver.received]
            jobs = {each["data"]["job_id"] for each in got if each["type"] == "job.succeeded"}
            assert jobs == ({line["job_id"] for line in lines} if events == "succeeded" else set())
            [of_group] = [each["data"] for each in got if each["type"] == "group.finished"]
            assert (of_group["group"], of_group["jobs"]) == (total["group"], 2)
            assert of_group["counts"] == {"cancelled": 0, "expired": 0, "failed": 0, "succeeded": 2}


@pytest.mark.parametrize(
    "url", ["ftp://example.org/", "http://u:p@example.org/", "http://example.org/" + "a" * 2048]
)
def test_a_url_that_cannot_be_sent_to_is_refused(server: RunningServer, url: str) -> None:
    answer = httpx.post(
        f"{server.inference}/jobs/echo", content=b"x", headers={**TEXT, "x-marq-webhook": url}
    )
    assert answer.status_code == 400
    assert "webhook must be a URL" in answer.json()["message"]


def test_failed_messages_are_listed_and_replayed_by_commands(server: RunningServer) -> None:
    with receiving((410, "")) as receiver:
        job = server.submit("echo", b"x", headers={**TEXT, "x-marq-webhook": receiver.url})
        wait_for(
            lambda: job in server.command("webhooks", "list", "--failed", "--json").stdout, what="the failure"
        )
        message = receiver.received[0].id
        assert "status 410" in server.command("webhooks", "show", message).stdout
        assert server.command("webhooks", "replay", message).stdout.strip() == message
        wait_for(lambda: len(receiver.received) == 2, what="the replay")
        assert receiver.received[1].id == message


@pytest.mark.slow
def test_all_webhooks_arrive_although_gateways_are_killed(server: RunningServer) -> None:
    with receiving() as receiver:
        with marq.Client(server.redis_url) as client:
            jobs = {job.id for job in client.submit_many("echo", [b"x"] * 300, webhook=receiver.url)}
        wait_for(lambda: receiver.received, what="the first webhook")
        for process in psutil.Process(server.process.pid).children(recursive=True):
            if "gateway" in process.cmdline():
                os.kill(process.pid, signal.SIGKILL)
        wait_for(lambda: len({each.id for each in receiver.received}) == 300, 180, "all webhooks")
        assert {each.json["data"]["job_id"] for each in receiver.received} == jobs
