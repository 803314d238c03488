import subprocess
import sys
from pathlib import Path

import pytest
from ports import free_port

CLIENT = Path(__file__).parents[2] / "examples/grpc/client.py"
UPPER = """
def handle(data, context):
    return None if data is None else [bytes(row["data"]).upper() for row in data]
"""


@pytest.fixture(scope="module")
def call(start_server, make_archive, tmp_path_factory):
    """Runs the client against a server whose store has upper.mar: (exit code, output)."""
    store = tmp_path_factory.mktemp("store")
    make_archive(store, "upper", UPPER)
    ports = {f"grpc_{api}_port": free_port() for api in ("inference", "management")}
    start_server(store, [], ["--disable-token-auth", "--enable-model-api"], enable_grpc=True, **ports)
    where = [f"--{api}=127.0.0.1:{ports[f'grpc_{api}_port']}" for api in ("inference", "management")]

    def call(*arguments):
        done = subprocess.run(
            [sys.executable, CLIENT, *map(str, arguments), *where],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
        )  # fmt: skip
        return done.returncode, done.stdout

    return call


def test_every_action_of_torchserves_client(call, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("one")
    two.write_text("two")
    assert call("register", "upper", "upper.mar") == (
        0, 'Model "upper" Version: 1.0 registered with 1 initial workers\n',
    )  # fmt: skip
    assert call("infer", "upper", one) == (0, "ONE\n")
    assert call("infer_stream", "upper", two) == (0, "TWO\n")
    code, text = call("infer_stream2", "upper", "s", f"{one}, {two}")
    assert code == 0
    assert text.split() == [
        *('prediction:', '"ONE"', 'sequence_id:', '"s"'), *('prediction:', '"TWO"', 'sequence_id:', '"s"'),
        *("Sequence", "completed!"),
    ]  # fmt: skip
    assert call("unregister", "upper") == (0, 'Model "upper" unregistered\n')
    code, text = call("infer", "upper", one)
    assert code == 1
    assert text.startswith("INTERNAL: Model not found: upper")
