"""A few seconds of each case of `make test-chaos`: nothing that was accepted is lost, nothing comes twice."""

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "chaos"))  # not a package: it has a runner of its own

import soak
import suite
from ledger import Ledger
from scale import SHORT
from stage import Stage

CASES = {**suite.CASES, suite.SOAK: soak.soak}


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    stage = Stage.start(tmp_path_factory.mktemp("chaos"))
    yield stage
    stage.server.stop()


def check(ledger: Ledger) -> None:
    assert (ledger.lost, ledger.duplicated) == (0, 0), ledger
    assert ledger.is_clean, ledger


@pytest.mark.parametrize("name", CASES)
def test_whatever_breaks_each_accepted_request_is_answered_once(stage, name):
    check(asyncio.run(suite.run(name, CASES[name], stage, SHORT)))


def test_connections_that_end_in_mid_command_lose_nothing(tmp_path):
    check(asyncio.run(suite.run_cut(tmp_path, SHORT)))
