"""`marq dead` against a stand-in for a server; the real one is in tests/e2e."""

import json

import pytest


@pytest.fixture
def management(server, note_server):
    note_server(management_address=server.address)
    return server


def letter(letter_id: str, **facts):
    known = {
        "id": letter_id,
        "died": 1763641000.5,
        "reason": "given up",
        "version": "1.0",
        "attempts": 3,
        "device": "cpu",
        "ending": "signal 9",
        "log": "",
        "lane": "",
        "entry": "",
        "request_id": "7",
        "replay_of": None,
        "content_type": "",
        "size": 1,
        "replayable": True,
    }
    return {**known, **facts}


@pytest.mark.parametrize("command", ["", "list", "show", "replay", "delete"])
def test_each_command_teaches_by_an_example(run, command):
    result = run("dead", *filter(None, [command]), "--help")
    assert result.exit_code == 0
    assert f"Example: marq dead {command}" in result.stdout


@pytest.mark.parametrize(
    "wrong",
    [
        ["show", "m"],
        ["replay", "m"],
        ["replay", "m", "1-1", "--all"],
        ["delete", "m"],
        ["show", "m", "1-1", "--body", "--json"],
        ["list", "m", "--limit", "0"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(run, wrong):
    assert run("dead", *wrong).exit_code == 2


def test_the_letters_of_all_models_are_counted(run, management):
    echo = {"model": "echo", "count": 12, "bytes": 3456, "oldest": 1763641000.5, "newest": 1763642000.5}
    management.answer("GET /dead-letters", {"models": [echo]})
    assert run("dead", "list").stdout.split()[6:9] == ["echo", "12", "3456"]
    assert json.loads(run("dead", "list", "--json").stdout) == [echo]
    assert management.asked[0][1]["authorization"] == "Bearer secret"


def test_what_a_client_sent_cannot_steer_the_terminal(run, management):
    hostile = letter("1-1", reason="\x1b[2Jgone [bold]", log="\x1b]0;title\x07", input="\x1b[31mred")
    management.answer("GET /dead-letters/m", {"dead_letters": [hostile]})
    management.answer("GET /dead-letters/m/1-1", hostile)
    for command in (["list", "m"], ["show", "m", "1-1"]):
        shown = run("dead", *command).stdout
        assert "gone [bold]" in shown
        assert "\x1b" not in shown


def test_many_letters_are_replayed_in_portions_the_oldest_first(run, management):
    ids = [f"{number}-0" for number in range(120, 0, -1)]
    management.answer("GET /dead-letters/m", {"dead_letters": [letter(each) for each in ids]})
    management.answer(
        "POST /dead-letters/m/replay", {"replayed": [{"id": "1-0", "job_id": "m:7"}], "refused": []}, 202
    )
    result = run("dead", "replay", "m", "--all", "--version", "2.0")
    assert (result.exit_code, result.stdout) == (0, "m:7\n" * 3)
    orders = [json.loads(body) for request, _, body in management.asked if request.startswith("POST")]
    assert [len(order["ids"]) for order in orders] == [50, 50, 20]
    assert [each for order in orders for each in order["ids"]] == ids[::-1]
    assert {order["version"] for order in orders} == {"2.0"}


def test_nothing_to_replay_is_no_failure(run, management):
    management.answer("GET /dead-letters/m", {"dead_letters": []})
    result = run("dead", "replay", "m", "--all", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"replayed": [], "refused": []})


def test_without_a_server_it_is_told(run):
    result = run("dead", "list")
    assert result.exit_code == 1
    assert "No marq server runs" in result.stderr
