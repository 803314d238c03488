"""Contract 1.4: every status and type of error that reaches clients."""

import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from contract import NOT_ALLOWED, NOT_FOUND, TEXT, error, pack_with_requirements

from gateway.application import management_application
from gateway.auth.tokens import Tokens
from gateway.routing.routes import Routes
from marq.settings.fields import Settings

SETTINGS = {"allowed_urls": "file:///.*", "max_request_size": 10_000, "install_py_dep_per_model": True}
RUN = "/predictions/tell"


@pytest.fixture(scope="module")
def second_version(management):
    management.post("/models?url=tell2.mar&initial_workers=0").raise_for_status()
    management.post("/models?url=tell.mar&model_name=idle&initial_workers=0").raise_for_status()


@pytest.mark.parametrize(
    ("code", "kind", "method", "path", "message"),
    [
        pytest.param(400, "BadRequestException", "POST", "/models", "Parameter url is required.",
                     id="400 BadRequestException"),
        pytest.param(400, "InvalidModelException", "POST", "/models?url=damaged.mar", "damaged.mar",
                     id="400 InvalidModelException"),
        pytest.param(400, "DownloadArchiveException", "POST", "/models?url=file:///no/such.mar",
                     "Failed to download archive from: file:///no/such.mar",
                     id="400 DownloadArchiveException"),
        pytest.param(403, "InvalidModelVersionException", "DELETE", "/models/tell/1.0",
                     "Cannot remove default version for model tell", id="403 InvalidModelVersionException"),
        pytest.param(404, "ResourceNotFoundException", "GET", "/nothing", NOT_FOUND,
                     id="404 ResourceNotFoundException"),
        pytest.param(404, "ModelNotFoundException", "GET", "/models/no", "Model not found: no",
                     id="404 ModelNotFoundException"),
        pytest.param(404, "ModelVersionNotFoundException", "GET", "/models/tell/9",
                     "Model version: 9 does not exist for model: tell",
                     id="404 ModelVersionNotFoundException"),
        pytest.param(405, "MethodNotAllowedException", "PATCH", "/models", NOT_ALLOWED,
                     id="405 MethodNotAllowedException"),
        pytest.param(409, "ConflictStatusException", "POST", "/models?url=tell.mar",
                     "Model version 1.0 is already registered for model tell",
                     id="409 ConflictStatusException"),
        pytest.param(400, "BadRequestException", "PUT", "/models/tell?min_worker=-1", "Parameter min_worker",
                     id="500 IndexOutOfBoundsException: here a 400 that names the parameter"),
    ],
)  # fmt: skip
def test_management_errors(management, store, second_version, code, kind, method, path, message):
    (store / "damaged.mar").write_bytes(b"PK\x03\x04 and no more")
    assert error(management.request(method, path), code, kind).startswith(message)


def test_400_ModelException(management, store):  # noqa: N802
    pack_with_requirements(store, "--no-index\nno-such-package\n")
    message = error(management.post("/models?url=needy.mar"), 400, "ModelException")
    assert message.splitlines()[0] == "Custom pip package installation failed for model needy"
    error(management.get("/models/needy"), 404, "ModelNotFoundException")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{", id="500 JsonSyntaxException: here a 400"),
        pytest.param(b"", id="500 NullPointerException: here a 400"),
    ],
)
def test_a_register_body_that_is_no_json(management, body):
    answer = management.post("/models", content=body, headers={"content-type": "application/json"})
    assert error(answer, 400, "BadRequestException").startswith("The body is not JSON")


@pytest.mark.parametrize(
    ("code", "kind", "path", "body", "message"),
    [
        pytest.param(413, "RequestTooLargeException", RUN, "x" * 10_001, "The request body has 10001 bytes",
                     id="413 empty body: here JSON that names the limit"),
        pytest.param(500, "InternalServerException", RUN, "die", "Worker died.",
                     id="500 InternalServerException"),
        pytest.param(503, "ServiceUnavailableException", "/predictions/idle", "",
                     'Model "idle" has no worker', id="503 ServiceUnavailableException"),
        pytest.param(503, "InternalServerException", RUN, "raise", "Prediction failed",
                     id="503 InternalServerException"),
        pytest.param(507, "InternalServerException", RUN, "memory", "Out of resources",
                     id="507 OutOfMemoryError"),
        pytest.param(507, "InternalServerException", RUN, "code 413", "too much",
                     id="507 an internal 413 remapped"),
    ],
)  # fmt: skip
def test_inference_errors(inference, second_version, code, kind, path, body, message):
    answer = inference.post(path, content=body, headers=TEXT)
    assert error(answer, code, kind).startswith(message)


def test_501_of_versioned_oip_routes_is_not_needed(inference):
    assert inference.post("/v2/models/tell/versions/1.0/infer").status_code == 200


def test_403_of_a_malformed_escape_is_a_404(inference):
    error(inference.get("/predictions/%zz"), 404, "ModelNotFoundException")


def test_500_ErrorDataDecoderException_is_not_raised(inference):  # noqa: N802 - TorchServe's name
    body = b"--b\r\nContent-Disposition: form-data\r\n\r\nno name\r\n--b--\r\n"
    answer = inference.post(RUN, content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert (answer.status_code, answer.json()["row"]) == (200, {})


def test_408_RequestTimeoutException(server, management, gate):  # noqa: N802
    """Unregister only: what runs does not end within the time-out."""
    management.post("/models?url=tell.mar&model_name=slow&response_timeout=60").raise_for_status()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(server.predict, "slow", f"hold {gate}".encode(), headers=TEXT)
        gate.wait_until_reached()
        answer = management.delete("/models/slow?timeout=1")
        gate.open()
        assert error(answer, 408, "RequestTimeoutException") == "Timed out while cleaning resources: slow"
        assert running.result().text == "let go"


async def test_400_InvalidKeyException(redis_url):  # noqa: N802
    settings = Settings(redis_url=redis_url)
    app = management_application(settings, Routes(settings), Tokens(required=True))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://marq") as client:
        error(await client.get("/models"), 400, "InvalidKeyException")


@pytest.mark.parametrize("plane", ["inference", "management"])
def test_400_of_what_is_no_http(server, plane):
    host, port = getattr(server, plane).removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as sock:
        sock.sendall(b"this is no HTTP\r\n\r\n")
        answer = b"".join(iter(lambda: sock.recv(4096), b"")).decode()
    assert answer.startswith("HTTP/1.1 400 Bad Request\r\n")
    assert answer.endswith(
        '{\n  "code": 400,\n  "type": "BadRequestException",\n  "message": "Invalid HTTP message."\n}\n'
    )
