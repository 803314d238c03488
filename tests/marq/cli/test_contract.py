import json
from pathlib import Path

from typer.testing import CliRunner

from marq.cli.app import app

GOLDEN = Path(__file__).parents[3] / "docs/contract/requests.jsonl"


def checked(*arguments, text=None):
    return CliRunner().invoke(app, ["contract", "check", *map(str, arguments)], input=text)


def test_good_entries_exit_with_0():
    found = checked(text='{"fields": {"body": "x", "reply": "mine"}}\n\n')
    assert (found.exit_code, found.stdout.splitlines()) == (0, ["line 1: good", "1 entries, 0 with a fault."])


def test_faults_and_warnings_name_their_lines():
    found = checked(text='{"fields": {"bodyy": "x"}}\n{\n{"fields": {"body": "x"}}\n')
    assert found.exit_code == 1
    lines = found.stdout.splitlines()
    assert lines[0] == "line 1: fault: the field `body` is missing."
    assert lines[1].startswith("line 2: fault: The line is not JSON")
    assert lines[2].startswith("line 3: warning: the answer is not sent")
    assert lines[3] == "3 entries, 2 with a fault."


def test_a_file_may_be_judged_as_json():
    found = checked(GOLDEN, "--json")
    assert found.exit_code == 1
    verdicts = json.loads(found.stdout)
    golden = [json.loads(line) for line in GOLDEN.read_text().splitlines()]
    assert [bool(each["fault"]) for each in verdicts] == ["fault" in each for each in golden]
