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
    # And it is said
    result = run("dead", "replay", "m", "--all")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "Note: m has no dead letters, so none was replayed\n"


def test_no_failed_webhook_is_no_failure_either(run, management):
    management.answer("GET /webhooks", {"webhooks": [], "counts": {"pending": 0, "failed": 0}})
    result = run("webhooks", "replay", "--failed")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "Note: no webhook has failed, so none is sent again\n"


def test_a_letter_is_shown_with_its_fields_its_log_and_its_input(run, management):
    shown = letter("1-1", log="last words", input="x" * 3000, fields={"path": "/a", "empty": ""})
    management.answer("GET /dead-letters/m/1-1", shown)
    text = run("dead", "show", "m", "1-1").stdout
    rows = dict(line.strip().split(maxsplit=1) for line in text.split("\n\n")[0].splitlines())
    assert (rows["reason"], rows["attempts"], rows["path"]) == ("given up", "3", "/a")
    assert not rows.keys() & {"empty", "log", "input", "fields"}
    assert "\nLog:\nlast words\n" in text
    assert f"\nInput:\n{'x' * 2000}... (--body prints all)\n" in text
    assert json.loads(run("dead", "show", "m", "1-1", "--json").stdout) == shown


def test_the_body_of_a_request_is_printed_as_it_was(run, management):
    management.answer("GET /dead-letters/m/1-1/body", b"\xff\x00")
    assert run("dead", "show", "m", "1-1", "--body").stdout_bytes == b"\xff\x00"


def test_a_list_may_be_limited_and_empty(run, management):
    management.answer("GET /dead-letters/m", {"dead_letters": [letter("2-1")], "next": "2-1"})
    assert len(json.loads(run("dead", "list", "m", "--limit", "1", "--json").stdout)) == 1
    assert management.asked[-1][0] == "GET /dead-letters/m?limit=1"
    management.answer("GET /dead-letters/m", {"dead_letters": []})
    assert run("dead", "list", "m").stdout == "No dead letters.\n"


def test_letters_that_cannot_be_replayed_are_named_and_the_command_fails(run, management):
    answer = {"replayed": [], "refused": [{"id": "1-1", "reason": "no body"}]}
    management.answer("POST /dead-letters/m/replay", answer, 202)
    result = run("dead", "replay", "m", "1-1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "1-1: no body" in result.stderr


def test_letters_are_deleted_one_by_one_or_all_of_a_model(run, management):
    management.answer("DELETE /dead-letters/m/1-1", {"deleted": 1})
    missing = {"code": 404, "type": "DeadLetterNotFoundException", "message": "No dead letter 2-2"}
    management.answer("DELETE /dead-letters/m/2-2", missing, 404)
    result = run("dead", "delete", "m", "1-1", "2-2")
    assert (result.exit_code, result.stdout) == (1, "Deleted: 1\n")
    assert "No dead letter 2-2" in result.stderr
    management.answer("DELETE /dead-letters/m", {"deleted": 7})
    assert json.loads(run("dead", "delete", "m", "--all", "--yes", "--json").stdout) == {"deleted": 7}


def test_all_letters_are_deleted_after_a_yes_only(run, management):
    management.answer("DELETE /dead-letters/m", {"deleted": 7})
    assert run("dead", "delete", "m", "--all", stdin=b"n\n").exit_code == 1
    assert not management.asked
    assert run("dead", "delete", "m", "--all", stdin=b"y\n").stdout.endswith("Deleted: 7\n")


def test_without_a_server_it_is_told(run):
    result = run("dead", "list")
    assert result.exit_code == 1
    assert "No marq server runs" in result.stderr
