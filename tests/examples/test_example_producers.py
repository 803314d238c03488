"""Producers in other languages against the embedded Redis: each is run where its toolchain is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples/producers"
MODEL = "producers"
REVERSE = """
def handle(data, context):
    if data is None:
        return None
    return [str(sorted(row)).encode() if b"fail" in row["body"] else bytes(row["body"])[::-1] for row in data]
"""
REDIGO = "golang-github-gomodule-redigo-dev"  # Debian's package of the Go client
GO_PATH = "usr/share/gocode"  # of its files


@pytest.fixture(scope="module")
def url(host, make_archive):
    archive = make_archive(host.store, MODEL, REVERSE)
    host.register(archive)
    environment = {**os.environ, "MARQ_STATE_DIR": str(host.server.state_dir)}
    marq = Path(sys.executable).parent / "marq"
    return subprocess.run(
        [marq, "redis-url"], env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("producers") / "body"
    path.write_bytes(b"from a producer")
    return path


def answer(*command, **options):
    done = subprocess.run(command, capture_output=True, timeout=180, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wants(program):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")


def in_parts(url):
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}", parts.password


def test_python(url, file):
    assert answer(sys.executable, EXAMPLES / "producer.py", url, MODEL, file) == b"recudorp a morf"


def test_shell(url, file):
    wants("redis-cli")
    lines = answer("sh", EXAMPLES / "producer.sh", url, MODEL, file).splitlines()
    assert lines[-2:] == [b"body", b"recudorp a morf"]


def test_node(url, file, tmp_path):
    wants("npm")
    answer("npm", "install", "--silent", "--prefix", tmp_path, "redis@5")
    script = shutil.copy(EXAMPLES / "producer.js", tmp_path)
    assert answer("node", script, url, MODEL, file) == b"recudorp a morf"


def test_java(url, file):
    wants("javac")
    assert answer("java", EXAMPLES / "Producer.java", *in_parts(url), MODEL, file) == b"recudorp a morf"


def test_rust(url, file, tmp_path):
    wants("rustc")
    answer("rustc", "-o", tmp_path / "producer", EXAMPLES / "producer.rs")
    assert answer(tmp_path / "producer", *in_parts(url), MODEL, file) == b"recudorp a morf"


def redigo(directory):
    """The GOPATH with the Go client: of the system, or from Debian's package, unpacked without root."""
    root = Path("/")
    if not (root / GO_PATH / "src/github.com/gomodule/redigo").is_dir():
        wants("apt-get")
        command = ["apt-get", "download", REDIGO]
        fetched = subprocess.run(command, cwd=directory, capture_output=True, text=True)
        if fetched.returncode:
            pytest.skip(f"{REDIGO} is not installed, and cannot be downloaded: {fetched.stderr}")
        [package] = directory.glob(f"{REDIGO}_*.deb")
        root = directory / "debian"
        answer("dpkg-deb", "--extract", package, root)
    return root / GO_PATH


def test_go(url, file, tmp_path):
    wants("go")
    go_path = redigo(tmp_path)
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": str(go_path), "GOCACHE": str(tmp_path)}
    found = answer("go", "run", EXAMPLES / "producer.go", url, MODEL, file, env=environment)
    assert found == b"recudorp a morf"
