"""Servers with https addresses, for browsers of other origins, with Redis behind TLS, on Unix sockets."""

import json
import ssl
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import certificates
import httpx
import pytest
from ports import free_port
from support import MARQ, START_TIMEOUT_S, RunningServer, wait_for
from tls_proxy import tls_proxy

ECHO = """
def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    return None if data is None else [bytes(row["body"]) for row in data]
"""
ORIGIN = "https://app.example.org"


@pytest.fixture(scope="module")
def store(make_archive, tmp_path_factory):
    directory = tmp_path_factory.mktemp("store")
    make_archive(directory, "echo", ECHO, config={"minWorkers": 1, "maxWorkers": 1})
    return directory


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return certificates.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def run_marq(tmp_path, monkeypatch):
    """Starts `marq start` with a config.properties; what it says is in `output`."""
    processes: list[subprocess.Popen[bytes]] = []
    monkeypatch.setenv("MARQ_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)

    def run(
        store: Path, *lines: str, arguments: tuple[str, ...] = ("--disable-token-auth",)
    ) -> RunningServer:
        where = {name: f"https://127.0.0.1:{free_port()}" for name in ("inference", "management", "metrics")}
        given = {f"{name}_address": address for name, address in where.items()}
        given |= dict(line.split("=", 1) for line in lines)
        Path("config.properties").write_text("".join(f"{k}={v}\n" for k, v in given.items()))
        output = tmp_path / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [MARQ, "start", "--model-store", store, "--models", "all", *arguments],
                stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        processes.append(process)
        where = {name: given[f"{name}_address"] for name in where}
        server = RunningServer(process, tmp_path / "state", **where, log=output)
        wait_for(
            lambda: process.poll() is not None or "Model server started." in output.read_text(),
            START_TIMEOUT_S,
            log=output,
        )
        return server

    yield run
    for process in processes:
        process.terminate()
        process.wait(60)


def trusting(pair) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(pair.certificate))


def pem(pair) -> tuple[str, ...]:
    return f"private_key_file={pair.key}", f"certificate_file={pair.certificate}"


def keystore(pair) -> tuple[str, ...]:
    return f"keystore={pair.keystore}", f"keystore_pass={pair.password}", "keystore_type=PKCS12"


def lines(config: tuple[str, ...]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in config)


def on_https() -> dict[str, str]:
    planes = ("inference", "management", "metrics")
    return {f"{plane}_address": f"https://127.0.0.1:{free_port()}" for plane in planes}


@pytest.fixture(scope="module")
def secured(start_server, store, pair):
    """A server with a certificate as PEM files, and with tokens."""
    return start_server(store, arguments=["--enable-model-api"], **on_https(), **lines(pem(pair)))


def keys_of(server: RunningServer) -> dict[str, dict[str, str]]:
    """The headers with the token of each plane."""
    stored = json.loads((server.log.parent / "key_file.json").read_text())
    return {plane: {"Authorization": f"Bearer {each['key']}"} for plane, each in stored.items()}


def check_that_all_addresses_answer(server: RunningServer, pair, keys) -> None:
    with httpx.Client(verify=trusting(pair), timeout=60) as client:
        for size in (1, 200_000):  # the second one is too large for the short cut
            body = b"x" * size
            for _ in range(3):
                url = f"{server.inference}/predictions/echo"
                answer = client.post(url, content=body, headers=keys.get("inference"))
                assert (answer.status_code, answer.content) == (200, body)
        managed = client.get(f"{server.management}/models", headers=keys.get("management"))
        assert managed.status_code == 200
        assert client.get(f"{server.metrics}/metrics", headers=keys.get("management")).status_code == 200
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{server.inference}/ping")  # not trusted
    with pytest.raises(httpx.TransportError):
        httpx.get(server.inference.replace("https", "http") + "/ping")


def test_all_addresses_answer_over_tls_also_on_the_short_cut_of_predictions(secured, pair):
    check_that_all_addresses_answer(secured, pair, keys_of(secured))


@pytest.mark.slow
def test_all_addresses_answer_over_tls_with_a_keystore(start_server, store, pair):
    server = start_server(store, **on_https(), **lines(keystore(pair)))
    check_that_all_addresses_answer(server, pair, {})


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.*is deprecated:DeprecationWarning")
def test_old_versions_of_tls_are_refused(secured, pair):
    old = trusting(pair)
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    headers = keys_of(secured)["inference"]
    url = f"{secured.inference}/ping"
    with pytest.raises(httpx.TransportError):
        httpx.get(url, verify=old, headers=headers)
    assert httpx.get(url, verify=trusting(pair), headers=headers).status_code == 200


def test_the_commands_trust_the_server_on_this_host(secured, tmp_path):
    (tmp_path / "body").write_bytes(b"hello")

    def marq(*arguments: str) -> str:
        done = secured.marq(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert marq("predict", "echo", str(tmp_path / "body")) == "hello"
    assert [model["name"] for model in json.loads(marq("models", "--json"))] == ["echo"]


def test_an_https_address_without_a_certificate_ends_the_start_and_says_what_to_set(run_marq, store):
    server = run_marq(store)
    assert server.process.wait(60) == 1
    told = server.log.read_text()
    assert "inference_address: https://127.0.0.1:" in told
    assert "needs a certificate: set private_key_file and certificate_file (PEM), or keystore" in told
    assert "Traceback" not in told


@pytest.fixture(scope="module")
def open_to_origin(start_server, store):
    """A server with tokens that the pages of one other origin may use."""
    return start_server(
        store, arguments=["--enable-model-api"], cors_allowed_origin=ORIGIN,
        cors_allowed_methods="GET, POST, PUT", cors_allowed_headers="authorization, content-type",
    )  # fmt: skip


def test_browsers_of_an_allowed_origin_may_ask_before_and_read_the_answer(open_to_origin):
    # Given a server with tokens, which a page of another origin wants to use
    server = open_to_origin
    url = f"{server.inference}/predictions/echo"
    # When its browser asks before, without a token as browsers do
    asked = httpx.options(
        url,
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "authorization",
        },
    )
    # Then it is told what it may do
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == ORIGIN
    assert "PUT" in asked.headers["access-control-allow-methods"]
    assert "authorization" in asked.headers["access-control-allow-headers"]
    # And the answer may be read, whether it is a prediction or an error
    headers = {"Origin": ORIGIN, **keys_of(server)["inference"]}
    answer = httpx.put(url, content=b"x", headers=headers, timeout=60)
    assert (answer.status_code, answer.content) == (200, b"x")
    refused = httpx.put(url, content=b"x", headers={"Origin": ORIGIN})
    assert refused.status_code == 400
    for each in (answer, refused, httpx.get(f"{server.management}/models", headers=headers)):
        assert each.headers["access-control-allow-origin"] == ORIGIN
        assert "x-request-id" in each.headers["access-control-expose-headers"]


def test_browsers_of_other_origins_and_other_methods_are_refused(open_to_origin):
    url = f"{open_to_origin.inference}/predictions/echo"
    other = httpx.options(url, headers={"Origin": "https://evil", "Access-Control-Request-Method": "POST"})
    assert other.status_code == 400
    assert "access-control-allow-origin" not in other.headers
    method = httpx.options(url, headers={"Origin": ORIGIN, "Access-Control-Request-Method": "DELETE"})
    assert method.status_code == 400
    headers = {"Origin": "https://evil", **keys_of(open_to_origin)["inference"]}
    plain = httpx.post(url, content=b"x", headers=headers, timeout=60)
    assert plain.status_code == 200
    assert "access-control-allow-origin" not in plain.headers


@pytest.fixture(scope="module")
def quiet(start_server, store):
    """A server without CORS and without an access log."""
    return start_server(store, access_log=False)


def test_without_cors_settings_no_header_is_added(quiet):
    answer = quiet.predict("echo", b"x", headers={"Origin": ORIGIN})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_requests_of_all_kinds_are_in_the_access_log(open_to_origin):
    # Given requests that no other test sends
    server, keys = open_to_origin, keys_of(open_to_origin)
    assert server.predict("echo/1.0", b"x", headers=keys["inference"]).status_code == 200
    server.predict("none", b"x", headers=keys["inference"])
    httpx.get(f"{server.management}/models?limit=3", headers=keys["management"])
    path = server.state_dir / "logs" / "access_log.log"
    beginnings = (
        'POST /predictions/echo/1.0 HTTP/1.1" 200 ',
        'POST /predictions/none HTTP/1.1" 404 ',
        'GET /models?limit=3 HTTP/1.1" 200 ',
    )

    def counted() -> list[int]:
        lines = [line.split('"', 1)[1] for line in path.read_text().splitlines()]
        return [sum(line.startswith(beginning) for line in lines) for beginning in beginnings]

    wait_for(lambda: all(counted()), what="the lines")
    assert counted() == [1, 1, 1]


def test_the_access_log_can_be_turned_off(quiet):
    assert quiet.predict("echo", b"x").status_code == 200
    assert not (quiet.state_dir / "logs" / "access_log.log").exists()


@pytest.mark.slow
def test_logs_are_json_on_request(start_server, store):
    server = start_server(store, log_format="json", number_of_netty_threads=4)
    assert server.predict("echo", b"x").status_code == 200
    logs = server.state_dir / "logs"
    wait_for(lambda: "/predictions/echo" in (logs / "access_log.log").read_text(), what="the line")
    entries = [json.loads(line) for line in (logs / "access_log.log").read_text().splitlines()]
    assert any(entry["uri"] == "/predictions/echo" and entry["status"] == 200 for entry in entries)
    told = [json.loads(line) for line in (logs / "ts_log.log").read_text().splitlines()]
    assert any("number_of_netty_threads" in entry["message"] for entry in told)


@pytest.mark.slow
def test_a_server_uses_a_redis_behind_tls(run_marq, store, redis_url, pair):
    parts = urlsplit(redis_url)
    with tls_proxy(unquote(parts.path), pair) as port:
        url = f"rediss://:{parts.password}@127.0.0.1:{port}/0?ssl_ca_certs={pair.certificate}&ssl_cert_reqs=required"
        server = run_marq(store, *pem(pair), arguments=("--disable-token-auth", "--redis-url", url))
        answer = httpx.post(
            f"{server.inference}/predictions/echo", content=b"x", verify=trusting(pair), timeout=60
        )
        assert (answer.status_code, answer.content) == (200, b"x")
        assert parts.password not in server.log.read_text()
        assert "Traceback" not in server.log.read_text()
        server.process.terminate()
        assert server.process.wait(60) == 0


@pytest.mark.slow
def test_a_server_answers_on_unix_sockets(run_marq, store, tmp_path):
    planes = ("inference", "management", "metrics")
    server = run_marq(store, *(f"{plane}_address=unix:{tmp_path / plane}" for plane in planes))
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(tmp_path / "inference")), timeout=60) as client:
        assert client.post("http://localhost/predictions/echo", content=b"x").content == b"x"
    (tmp_path / "body").write_bytes(b"hello")
    done = subprocess.run([MARQ, "predict", "echo", "body"], capture_output=True, timeout=60)
    assert done.stdout == b"hello", done.stderr
    assert server.process.poll() is None
