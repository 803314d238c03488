import json

import pytest


@pytest.fixture
def body(tmp_path):
    file = tmp_path / "body.txt"
    file.write_text("hello")
    return file


def test_each_request_carries_the_file_and_the_figures_are_printed(run, server, body):
    server.answer("POST /predictions/m", b"seen")
    result = run("bench", "m", body, "-n", 20, "-c", 4)
    assert result.exit_code == 0
    assert [content for _, _, content in server.asked] == [b"hello"] * 20
    assert "20 answers in" in result.stdout
    assert all(f"{name} " in result.stdout for name in ("p50", "p90", "p95", "p99", "max"))
    assert "█" in result.stdout


def test_the_json_has_all_figures(run, server, body):
    server.answer("POST /predictions/m", b"seen")
    told = json.loads(run("bench", "m", body, "-n", 5, "-c", 2, "--json").stdout)
    assert (told["answered"], told["failed"]) == (5, 0)
    assert 0 < told["latency_ms"]["p50"] <= told["latency_ms"]["p99"] <= told["latency_ms"]["max"]
    assert told["requests_per_second"] > 0


def test_with_a_duration_it_ends_by_itself(run, server, body):
    server.answer("POST /predictions/m", b"seen")
    told = json.loads(run("bench", "m", body, "-d", 0.3, "-c", 2, "--json").stdout)
    assert told["answered"] == len(server.asked)
    assert told["duration_s"] >= 0.3


def test_failed_requests_are_counted_with_the_servers_reason(run, server, body):
    server.answer("POST /predictions/m", {"code": 503, "type": "Busy", "message": "queue is full"}, 503)
    result = run("bench", "m", body, "-n", 3, "-c", 1)
    assert result.exit_code == 1
    assert "queue is full" in result.stderr


def test_the_picture_is_written_as_svg(run, server, body, tmp_path):
    server.answer("POST /predictions/m", b"seen")
    assert run("bench", "m", body, "-n", 5, "--svg", tmp_path / "p.svg").exit_code == 0
    assert "requests/s" in (tmp_path / "p.svg").read_text().replace("&#160;", " ")
