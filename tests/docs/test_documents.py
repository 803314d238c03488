"""Everything in README.md, docs/ and the READMEs of examples that a reader would paste is pasted here."""

import json
import shutil
import sys
import zipfile
from collections.abc import Callable, Mapping
from itertools import pairwise

import pytest
import redis
from documents import (
    FENCE,
    LANGUAGES,
    OpenTerminal,
    Terminal,
    blocks,
    documents,
    runnable,
)
from sources import PROJECT
from support import wait_for

ALL = [block for document in documents() for block in blocks(document)]
DOCS = PROJECT / "docs"

SECTIONS = sorted(
    {(document.name, block.section) for document in DOCS.glob("*.md") for block in runnable(document)}
)


def bury_two(terminal: Terminal) -> Mapping[str, str]:
    """Two dead letters of the model: entries whose deadline is not a number."""
    url = terminal.type("marq redis-url", "redis-url").split()[-1]
    body = (terminal.folder / "seven.png").read_bytes()
    with redis.Redis.from_url(url) as client:
        for _ in range(2):
            client.xadd("marq:{digits}:normal:1.0", {"body": body, "type": "image/png", "deadline": "soon"})

        def buried() -> list[bytes]:
            letters = client.xrange("marq:{digits}:dead")
            return [letter for letter, fields in letters if fields.get(b"deadline") == b"soon"]

        letter = wait_for(lambda: len(buried()) == 2 and buried()[0])
    return {"1763641000123-0": letter.decode(), "--version 2.0": "--version 1.0"}


def two_hosts(terminal: Terminal, redis_url: str) -> Mapping[str, str]:
    store = terminal.folder / "models"
    terminal.type(f"python examples/scikit_learn/pack.py {store}", "pack")
    return {
        "redis://:password@redis.internal:6379/0": f"'{redis_url}'",
        "/models": str(store),
        "/var/lib/marq": str(terminal.folder / "node"),
    }


def serve_words(terminal: Terminal, redis_url: str) -> Mapping[str, str]:
    """The launcher with a stand-in for vLLM."""
    terminal.type("python -m ts.llm_launcher --model_id org/teller --disable_token_auth &", "launcher")
    terminal.wait_for_the_server()
    return {}


def torchserve_folder(terminal: Terminal, redis_url: str) -> Mapping[str, str]:
    folder = terminal.folder / "my-torchserve"
    (folder / "model-store").mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM pytorch/torchserve:latest-cpu\n")
    (folder / "config.properties").write_text("inference_address=http://0.0.0.0:8080\nvmargs=-Xmx4g\n")
    model = {"modelName": "digits", "modelVersion": "1.0", "handler": "image_classifier"}
    with zipfile.ZipFile(folder / "model-store/digits.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": model}))
    return {}


# What the readers of these sections have beside README.md's server.
BESIDE_DIGITS: dict[tuple[str, str], Callable[[Terminal], Mapping[str, str]]] = {
    ("operations.md", "Dead letters"): bury_two,
}
# These sections have servers of their own, or none.
ALONE: dict[tuple[str, str], Callable[[Terminal, str], Mapping[str, str]]] = {
    ("operations.md", "More hosts"): two_hosts,
    ("llm.md", "Requests"): serve_words,
    ("migration.md", "Moving from TorchServe"): torchserve_folder,
}
VARIABLES = {("llm.md", "Requests"): {"PYTHONPATH": str(PROJECT / "tests/shared/llm_engines")}}


def test_each_block_says_what_it_is() -> None:
    assert [str(block) for block in ALL if block.language not in LANGUAGES] == []


def test_each_command_is_in_a_block() -> None:
    """Lines that are indented by four spaces are code, too, and would not be run."""
    for document in documents():
        lines = pairwise(FENCE.sub("", document.read_text()).splitlines())
        assert [line for before, line in lines if not before and line.startswith("    ")] == [], document


def test_blocks_that_are_not_run_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    left_out = [block for block in ALL if block.not_run]
    reasons = "\n".join(f"  {block}: {block.not_run}" for block in left_out)
    with capsys.disabled():
        sys.stdout.write(f"\n{len(left_out)} blocks of the documents are not run:\n{reasons}\n")
    assert len(left_out) <= 10


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("document", "section"), [place for place in SECTIONS if place not in ALONE])
def test_a_section_works_as_shown_beside_the_server_of_the_readme(
    document: str, section: str, beside_digits: Terminal
) -> None:
    prepare = BESIDE_DIGITS.get((document, section), lambda _: {})
    paste(document, section, beside_digits, prepare(beside_digits))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("document", "section"), ALONE)
def test_a_section_works_as_shown_in_a_new_folder(
    document: str, section: str, open_terminal: OpenTerminal, redis_url: str
) -> None:
    terminal = open_terminal(**VARIABLES.get((document, section), {}))
    paste(document, section, terminal, ALONE[document, section](terminal, redis_url))


def paste(document: str, section: str, terminal: Terminal, replaced: Mapping[str, str]) -> None:
    wanted = [block for block in runnable(DOCS / document) if block.section == section]
    assert wanted, f"{document} has no section {section!r} to run"
    for tool in ("redis-cli",):
        if not shutil.which(tool) and any(tool in block.text for block in wanted):
            pytest.skip(f"{tool} is not installed")
    for block in wanted:
        terminal.run(block, replaced)
