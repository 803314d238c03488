"""Each command that prints facts prints them as JSON, too."""

import json
import subprocess

import pytest
import typer

from marq.cli.app import app
from marq.registry.spec import SETTINGS

# They run until they are ended, or print answers of models, or nothing but JSON.
OTHERS = {
    *("start", "gateway", "node", "bridge", "run"),
    *("predict", "explain", "export", "workflow run", "workflow draw"),
}
VERSION = {each.describe: 1 for each in SETTINGS} | {
    "modelName": "m", "modelVersion": "1.0", "modelUrl": "m.mar", "minWorkers": 1, "maxWorkers": 1,
    "batchSize": 1, "maxBatchDelay": 100, "loadedAtStartup": True, "workers": [],
}  # fmt: skip
LETTER = {
    "id": "1-0", "died": 1.0, "version": "1.0", "attempts": 3, "device": "cpu", "reason": "r", "log": "",
}  # fmt: skip
ANSWERS = {
    "GET /models": {"models": [{"modelName": "m"}]},
    "GET /models/m": [VERSION],
    "GET /models/m/all": [VERSION],
    "POST /models": {"status": "registered"},
    "PUT /models/m": {"status": "scaled"},
    "POST /models/m/reload": {"status": "reloaded"},
    "PUT /models/m/1.0/set-default": {"status": "set"},
    "DELETE /models/m": {"status": "unregistered"},
    "POST /predictions/m": b"answer",
    "POST /jobs/m": {"job_id": "m:1"},
    "POST /jobs/m:batch": {"group": "m:g", "queued": 0, "refused": 0},
    "GET /jobs/m:1": {"job_id": "m:1", "state": "succeeded"},
    "GET /jobs": {"jobs": [], "counts": {}},
    "DELETE /jobs/m:1": {"state": "cancelled"},
    "POST /jobs/m:1/retry": {"job_id": "m:1"},
    "GET /workflows": {"workflows": []},
    "POST /workflows": {"status": "registered"},
    "GET /workflows/w": [{"workflowName": "w"}],
    "DELETE /workflows/w": {"status": "unregistered"},
    "GET /dead-letters": {"models": []},
    "GET /dead-letters/m/1-0": LETTER,
    "POST /dead-letters/m/replay": {"replayed": [], "refused": []},
    "DELETE /dead-letters/m/1-0": {"deleted": 1},
    "GET /webhooks": {"webhooks": [], "counts": {"pending": 0, "failed": 0}},
    "GET /webhooks/msg_1": {"id": "msg_1", "url": "http://example.org/"},
    "POST /webhooks/msg_1/replay": {"replayed": "msg_1"},
}
LINES = {
    "stop": [], "status": [], "top": [], "logs": [], "config": [], "redis-url": ["--socket"], "doctor": [],
    "migrate": ["."], "plugins": [], "models": [], "describe": ["m"], "register": ["m.mar"],
    "scale": ["m", "1"], "reload": ["m"], "set-default": ["m", "1.0"], "unregister": ["m"],
    "import": ["exported.json"],
    "archive": ["--model-name", "m", "-v", "1.0", "--handler", "h.py", "--no-check"],
    "build": ["--model_name", "m", "--model_file", "h.py", "--checkpoint_file", "w.pth", "--version", "1.0"],
    "bench": ["m", "h.py", "-n", "1", "-c", "1"], "submit": ["m", "h.py"], "job": ["m:1"], "jobs": [],
    "batch": ["m", "exported.json"],
    "workflow list": [], "workflow register": ["w.war"], "workflow describe": ["w"], "workflow delete": ["w"],
    "cancel": ["m:1"], "retry": ["m:1"], "dead list": [], "dead show": ["m", "1-0"],
    "dead replay": ["m", "1-0"], "dead delete": ["m", "1-0"],
    "webhooks list": [], "webhooks show": ["msg_1"], "webhooks replay": ["msg_1"],
}  # fmt: skip


def commands(group, prefix=""):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{name} ")
        else:
            yield prefix + name, command


ALL = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", sorted(ALL.keys() - OTHERS))
def test_a_command_that_prints_facts_has_the_option(name):
    assert "--json" in [option for parameter in ALL[name].params for option in parameter.opts]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working directory with what the command lines above name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("marq.host.doctor.TORCH_CODE", "print('2.9|-')")  # its import takes seconds
    (tmp_path / "h.py").write_text("def handle(data, context):\n    return data\n")
    (tmp_path / "w.pth").touch()
    (tmp_path / "config.properties").write_text("model_store=.\n")
    (tmp_path / "exported.json").write_text('{"format": 1, "models": []}')
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "model_log.log").write_text("a line\n")
    return tmp_path


@pytest.fixture
def process():
    """Stands for a server that `marq stop` may end."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("name", sorted(LINES))
def test_what_it_prints_is_json(name, run, server, note_server, redis_url, workplace, process):
    # Given a server that answers
    for request, answer in ANSWERS.items():
        server.answer(request, answer)
    note_server(
        pid=process.pid,
        redis_url=redis_url,
        inference_address=server.address,
        management_address=server.address,
        log_dir=str(workplace / "logs"),
    )
    # When the command is run with --json
    result = run(*name.split(), *LINES[name], "--json")
    # Then all that it prints to stdout is one JSON value
    assert json.loads(result.stdout) is not None, result.stderr
