import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from marq.cli.http import guess_type, path

MARQ = Path(sys.executable).with_name("marq")
NOT_FOUND = {"code": 404, "type": "ModelNotFoundException", "message": "Model not found: m"}
QUEUED = {"job_id": "m:1", "state": "queued", "model": "m", "version": "1.0", "queued": 1_700_000_000.25}
DONE = {**QUEUED, "state": "succeeded", "finished": 1_700_000_001.5, "status": 200}


@pytest.fixture
def body(tmp_path):
    file = tmp_path / "body.json"
    file.write_text('{"x": 1}')
    return file


def test_predict_prints_the_answers_bytes_as_they_are(run, server, body):
    server.answer("POST /predictions/m", b"\xff\x00 raw")
    result = run("predict", "m", body)
    assert (result.exit_code, result.stdout_bytes) == (0, b"\xff\x00 raw")
    _, headers, sent = server.asked[0]
    assert sent == b'{"x": 1}'
    assert headers["content-type"] == "application/json"
    assert headers["authorization"] == "Bearer secret"


def test_predict_takes_a_version_a_content_type_and_standard_input(run, server):
    server.answer("POST /predictions/a%20b/2.0", b"ok")
    result = run("predict", "a b", "-", "--version", "2.0", "--content-type", "text/plain", stdin=b"hello")
    assert result.stdout == "ok"
    _, headers, sent = server.asked[0]
    assert (headers["content-type"], sent) == ("text/plain", b"hello")


def test_explain_asks_for_an_explanation(run, server, body):
    server.answer("POST /explanations/m/2.0", b"because")
    assert run("explain", "m", body, "--version", "2.0").stdout == "because"


def test_another_server_gets_its_own_token_and_never_that_of_this_host(run, server, body, state_dir):
    server.answer("POST /predictions/m", b"ok")
    assert run("predict", "m", body, "--url", server.address).exit_code == 0
    assert "authorization" not in server.asked[0][1]
    run("predict", "m", body, "--url", server.address.removeprefix("http://"), "--token", "theirs")
    assert server.asked[1][1]["authorization"] == "Bearer theirs"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (NOT_FOUND, "Error: ModelNotFoundException (404): Model not found: m\n"),
        (b"it\nbroke", "Error: status 404: it broke\n"),
    ],
)
def test_an_error_status_is_told_on_stderr(run, server, body, answer, message):
    server.answer("POST /predictions/m", answer, 404)
    result = run("predict", "m", body)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", message)


def test_a_server_that_is_not_marq_is_told(run, server, body):
    server.answer("POST /jobs/m", b"[1]")
    assert "does not answer as marq does" in run("submit", "m", body).stderr


@pytest.mark.parametrize("url", ["http://user:hidden@127.0.0.1:1", "http://user:hidden@127.0.0.1:x"])
def test_a_server_that_does_not_answer_is_named_without_its_password(run, body, url):
    result = run("predict", "m", body, "--url", url)
    assert result.exit_code == 1
    assert "127.0.0.1:" in result.stderr
    assert "hidden" not in result.stderr


@pytest.mark.parametrize("command", [["predict", "m", "-"], ["submit", "m", "-"], ["job", "m:1"]])
def test_without_a_server_the_message_says_what_to_do(run, command, state_dir):
    result = run(*command)
    assert result.exit_code == 1
    assert f"No marq server runs with the state directory {state_dir}" in result.stderr
    assert "marq start" in result.stderr


def test_submit_prints_the_job_ids(run, server, body):
    server.answer("POST /jobs/m/1.0", QUEUED, 202)
    result = run("submit", "m", body, body, "--version", "1.0")
    assert (result.exit_code, result.stdout) == (0, "m:1\nm:1\n")


def test_nothing_is_submitted_if_one_of_the_files_is_missing(run, server, body):
    result = run("submit", "m", body, "missing")
    assert result.exit_code == 2
    assert "File not found: missing" in result.stderr
    assert server.asked == []


def test_submit_prints_the_ids_of_what_was_queued_before_an_error(run, server, body, monkeypatch):
    from marq.cli.http import Api, RequestFailed

    answers = [{"job_id": "m:1"}, RequestFailed("full")]

    def answer(self, *_args, **_options):
        if isinstance(given := answers.pop(0), Exception):
            raise given
        return given

    monkeypatch.setattr(Api, "ask", answer)
    result = run("submit", "m", body, body)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "m:1\n", "Error: full\n")


def test_submit_and_wait_prints_results_only_and_tells_failures(run, server, body):
    server.answer("POST /jobs/m", QUEUED, 202)
    server.answer("GET /jobs/m:1", DONE)
    server.answer("GET /jobs/m:1/result", b"[7]")
    result = run("submit", "m", body, body, "--wait")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "[7]\n[7]\n", "m:1\nm:1\n")
    server.answer("GET /jobs/m:1/result", b"no", 500)
    failed = run("submit", "m", body, "--wait")
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert failed.stderr.endswith("Error: m:1: status 500: no\n")


def test_job_shows_state_and_times(run, server):
    server.answer("GET /jobs/m:1", DONE)
    result = run("job", "m:1")
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if line.startswith(("s", "q")))
    assert lines["state"].strip() == "succeeded"
    assert lines["queued"].strip().endswith(".250")
    assert json.loads(run("job", "m:1", "--json").stdout) == DONE


def test_job_prints_the_result_itself(run, server):
    server.answer("GET /jobs/m:1", DONE)
    server.answer("GET /jobs/m:1/result", b"\x89PNG")
    assert run("job", "m:1", "--result").stdout_bytes == b"\x89PNG"


def test_a_job_that_has_not_finished_in_time_is_a_failure(run, server):
    server.answer("GET /jobs/m:1", QUEUED)
    result = run("job", "m:1", "--wait", "0.5")
    assert result.exit_code == 1
    assert result.stderr == "Error: Job m:1 is still queued after 0.5 s.\n"
    assert 0 < float(server.asked[0][0].partition("wait=")[2]) <= 0.5


def test_ctrl_c_ends_a_request_without_a_traceback(body):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        command = [MARQ, "predict", "m", body, "--url", f"http://127.0.0.1:{silent.getsockname()[1]}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        silent.settimeout(60)
        connection, _ = silent.accept()
        connection.recv(1)  # it waits for the answer now
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=60)
        connection.close()
    assert process.returncode == 130
    assert output == (b"", b"")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.json", "application/json"),
        ("a.jpg", "image/jpeg"),
        ("a.txt", "text/plain"),
        ("a.json.gz", "application/octet-stream"),
        ("weights.unknown", "application/octet-stream"),
        ("-", "application/octet-stream"),
    ],
)
def test_the_content_type_is_guessed_by_the_files_name(name, kind):
    assert guess_type(Path(name)) == kind


def test_paths_are_quoted_by_segment():
    assert path("predictions", "a/b c", None) == "/predictions/a%2Fb%20c"
    assert path("jobs", "m:1", "result") == "/jobs/m:1/result"


def test_submit_tells_files_and_jobs_as_json(run, server, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"x")
    server.answer("POST /jobs/m", {"job_id": "m:1"}, 202)
    result = run("submit", "m", tmp_path / "a", tmp_path / "b", "--json")
    assert json.loads(result.stdout) == [
        {"file": str(tmp_path / "a"), "job_id": "m:1"},
        {"file": str(tmp_path / "b"), "job_id": "m:1"},
    ]
    assert run("submit", "m", tmp_path / "a", "--json", "--wait").exit_code == 2


def test_submit_sends_the_options_of_jobs(run, server, body):
    server.answer("POST /jobs/m", {"job_id": "m:1"})
    options = (
        "--priority",
        "low",
        "--tag",
        "night",
        "--tag",
        "ward-7",
        "--retries",
        "3",
        "--not-before",
        "+60",
    )
    assert run("submit", "m", body, *options).exit_code == 0
    headers = server.asked[0][1]
    assert (headers["x-marq-priority"], headers["x-marq-tags"]) == ("low", "night,ward-7")
    assert (headers["x-marq-retries"], headers["x-marq-not-before"]) == ("3", "+60")


def test_jobs_lists_a_page_with_counts(run, server):
    page = {"jobs": [{**DONE, "attempts": 1, "tags": ["night"]}], "counts": {"queued": 7, "failed": 0}}
    server.answer("GET /jobs", page)
    result = run("jobs", "m", "--state", "succeeded", "--limit", "5")
    assert result.exit_code == 0, result.stderr
    assert server.asked[0][0] == "GET /jobs?model=m&state=succeeded&limit=5"
    assert "m:1" in result.stdout
    assert "night" in result.stdout
    assert "7 queued" in result.stdout
    assert "failed" not in result.stdout
    assert json.loads(run("jobs", "m", "--state", "succeeded", "--limit", "5", "--json").stdout) == page


def test_jobs_are_cancelled_by_id_and_by_filter(run, server):
    server.answer("DELETE /jobs/m:1", QUEUED)
    assert run("cancel", "m:1").stdout == "Cancelled 1 job.\n"
    server.answer("DELETE /jobs", {"cancelled": 12, "remaining": 0})
    assert run("cancel", "--model", "m", "--tag", "night").stdout == "Cancelled 12 jobs.\n"
    assert server.asked[-1][0] == "DELETE /jobs?model=m&tag=night"
    server.answer("DELETE /jobs", {"cancelled": 0, "remaining": 0})
    assert run("cancel", "--model", "m").stdout == "Cancelled 0 jobs.\n"
    assert run("cancel").exit_code == 2
    assert run("cancel", "m:1", "--model", "m").exit_code == 2


def test_jobs_that_were_cancelled_before_a_failure_are_counted(run, server):
    server.answer("DELETE /jobs/m:1", QUEUED)
    server.answer("DELETE /jobs/m:2", {"code": 409, "type": "Conflict", "message": "has finished"}, 409)
    result = run("cancel", "m:1", "m:2")
    assert (result.exit_code, result.stdout) == (1, "Cancelled 1 job.\n")
    assert "has finished" in result.stderr


def test_a_job_is_retried(run, server):
    server.answer("POST /jobs/m:1/retry", {"job_id": "m:1"})
    assert run("retry", "m:1").stdout == "Queued m:1 again.\n"


GROUP = {"group": "m:g", "queued": 2, "refused": 1}
LINES = [
    {"line": 1, "job_id": "m:1"},
    {"line": 2, "error": {"message": "not JSON"}},
    {"line": 3, "job_id": "m:3"},
]


def lines(*answers):
    return b"".join(json.dumps(answer).encode() + b"\n" for answer in answers)


def test_batch_prints_ids_and_tells_refused_lines(run, server, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"1\n!\n3\n")
    server.answer("POST /jobs/m/1.0:batch", lines(*LINES, GROUP), 202)
    result = run("batch", "m", file, "--version", "1.0", "--priority", "low")
    assert (result.exit_code, result.stdout) == (1, "m:1\nm:3\n")
    assert result.stderr == "Error: line 2: not JSON\nGroup m:g: 2 queued, 1 refused.\n"
    _, headers, _ = server.asked[0]
    assert (headers["content-type"], headers["x-marq-priority"]) == ("application/x-ndjson", "low")


def test_batch_waits_for_its_group(run, server, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"1\n")
    server.answer("POST /jobs/m:batch", lines(LINES[0], {"group": "m:g", "queued": 1, "refused": 0}), 202)
    counts = {"succeeded": 1, "failed": 0, "expired": 0, "cancelled": 0}
    server.answer("GET /jobs/groups/m:g", {"jobs": 1, "finished": True, "counts": counts})
    result = run("batch", "m", file, "--wait")
    assert (result.exit_code, result.stdout) == (0, "m:1\n")
    assert result.stderr.endswith("Finished: 1 succeeded.\n")
    # As JSON it prints all of it
    printed = json.loads(run("batch", "m", file, "--wait", "--json").stdout)
    assert (printed["group"], printed["lines"], printed["counts"]) == ("m:g", [LINES[0]], counts)
    # An answer that was cut off is not a success
    server.answer("POST /jobs/m:batch", lines(LINES[0]), 202)
    assert run("batch", "m", file).exit_code == 1
