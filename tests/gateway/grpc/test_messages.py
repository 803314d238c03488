import subprocess
import sys
from pathlib import Path

import google.rpc
import pytest

from gateway import grpc as package

FOLDER = Path(package.__file__).parent
# An old compiler: its messages run on protobuf 5, 6 and 7
COMPILER = ["--from", "grpcio-tools==1.62.3", "--with", "setuptools<80", "--python", "3.11"]


@pytest.mark.slow
def test_the_generated_messages_are_those_of_the_protos(tmp_path):
    protos = sorted((FOLDER / "protos").glob("*.proto"))
    common = Path(next(iter(google.rpc.__path__))).parents[1]
    uv = [sys.executable, "-m", "uv", "tool", "run"]
    subprocess.run(
        [
            *uv, *COMPILER, "python", "-m", "grpc_tools.protoc", f"-I{FOLDER / 'protos'}", f"-I{common}",
            f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", *(proto.name for proto in protos),
        ],
        check=True,
    )  # fmt: skip
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    known = {path.name: path.read_text() for path in (FOLDER / "messages").glob("*_pb2.py*")}
    assert made == known
    assert len(known) == 2 * len(protos)
