"""What the tests of TorchServe's REST contract share: a handler that obeys, and the shape of answers."""

import json
from pathlib import Path

import httpx
from gate import HOLD

from archive.packing.writer import ArchiveSpec, write

TELL = (
    HOLD
    + '''
import os
import signal

from ts.utils.util import PredictionException


def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    if data is None:
        return None  # noqa: RET501
    order = data[0].get("body")
    if isinstance(order, str) and order.startswith("hold "):
        hold(order.removeprefix("hold "))
        return ["let go"] * len(data)
    if isinstance(order, str) and order in ACTIONS:
        return ACTIONS[order](data, context)
    return [tell(row, index, context) for index, row in enumerate(data)]


def tell(row, index, context):
    """What the handler was given, as JSON."""
    if context.get_request_header(index, "describe") == "True":
        return {"described": list(row)}
    names = ("explain", "url_path", "X-Own", "x-request-id", "Authorization")
    return {
        "version": context.manifest["model"]["modelVersion"],
        "row": {name: shown(value) for name, value in row.items()},
        "headers": {name: context.get_request_header(index, name) for name in names},
        "kinds": {name: context.get_request_header(index, name) for name in row},
        "id": context.get_request_id(index),
    }


def shown(value):
    return "bytearray " + value.decode() if isinstance(value, bytearray) else value


def fail(error):
    def act(data, context):
        raise error
    return act


def die(data, context):
    os.kill(os.getpid(), signal.SIGKILL)


def hang(data, context):
    time.sleep(30)


def refuse(data, context):
    context.set_response_status(418, "teapot", 0)
    context.set_response_content_type(0, "text/tea")
    return ["short and stout"]


ACTIONS = {
    "raise": fail(ValueError("the handler's own reason")),
    "memory": fail(MemoryError()),
    "cuda": fail(RuntimeError("CUDA error: out of memory")),
    "code 599": fail(PredictionException("own words", 599)),
    "code 413": fail(PredictionException("too much", 413)),
    "code": fail(PredictionException("no code")),
    "no list": lambda data, context: "text",
    "too few": lambda data, context: [],
    "no json": lambda data, context: [{1, 2}],
    "large": lambda data, context: [b"x" * 2_000_000],
    "die": die,
    "hang": hang,
    "refuse": refuse,
}
'''
)
DEFAULTS = {"enable_model_api": True, "gateway_workers": 1, "access_log": False, "enable_metrics_api": False}
TEXT = {"content-type": "text/plain"}
NOT_FOUND = "Requested resource is not found, please refer to API document."
NOT_ALLOWED = "Requested method is not allowed, please refer to API document."


def error(answer, code, kind):
    """The message of an error answer, whose shape is checked."""
    assert answer.status_code == code, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["code", "type", "message"]
    assert (answer.json()["code"], answer.json()["type"]) == (code, kind)
    return answer.json()["message"]


def status(answer, code):
    """The text of a status answer, whose shape is checked."""
    assert answer.status_code == code, answer.text
    assert answer.headers["content-type"] == "application/json"
    text = json.dumps(answer.json()["status"], ensure_ascii=False)
    assert answer.text == f'{{\n  "status": {text}\n}}\n'
    return answer.json()["status"]


def pack(store: Path, name: str, source: str, config=None, version="1.0") -> Path:
    """Writes an archive of a handler's source into a model store."""
    sources = store / f".{name}"
    sources.mkdir(exist_ok=True)
    (sources / f"{name}_handler.py").write_text(source)
    (sources / "model-config.yaml").write_text(json.dumps(config or {}))  # JSON is YAML
    return write(
        ArchiveSpec(
            model_name=name, handler=str(sources / f"{name}_handler.py"), version=version, export_path=store,
            config_file=str(sources / "model-config.yaml"), force=True,
        )
    )  # fmt: skip


def pack_with_requirements(store: Path, requirements: str) -> Path:
    """Writes `needy.mar`, whose packages are installed before it starts."""
    sources = store / ".needy"
    sources.mkdir(exist_ok=True)
    (sources / "needy_handler.py").write_text(TELL)
    (sources / "requirements.txt").write_text(requirements)
    return write(
        ArchiveSpec(
            model_name="needy", handler=str(sources / "needy_handler.py"), version="1.0", export_path=store,
            requirements_file=str(sources / "requirements.txt"), force=True,
        )
    )  # fmt: skip


def forget_models(server) -> None:
    """Leaves the server with `tell` 1.0 alone, as it was started."""
    with httpx.Client(base_url=server.management, timeout=60) as api:
        api.put("/models/tell/1.0/set-default").raise_for_status()
        for name in [model["modelName"] for model in api.get("/models").json()["models"]]:
            versions = [each["modelVersion"] for each in api.get(f"/models/{name}/all").json()]
            default = api.get(f"/models/{name}").json()[0]["modelVersion"]
            for version in sorted(versions, key=lambda version: version == default):
                if (name, version) != ("tell", "1.0"):
                    api.delete(f"/models/{name}/{version}").raise_for_status()
        api.put("/models/tell?min_worker=1&synchronous=true").raise_for_status()
