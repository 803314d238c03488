"""A few seconds of each case of `make test-chaos`: nothing that was accepted is lost, nothing comes twice.

Only *host killed* is not among them: a heartbeat alone takes 10 s.
"""

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "chaos"))  # not a package: it has a runner of its own

import suite
from ledger import Ledger
from scale import SHORT
from stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    stage = Stage.start(tmp_path_factory.mktemp("chaos"))
    yield stage
    stage.server.stop()


@pytest.fixture(scope="module")
def durable_stage(tmp_path_factory):
    stage = suite.start_durable(tmp_path_factory.mktemp("durable"))
    yield stage
    stage.server.stop()


def check(ledger: Ledger) -> None:
    assert (ledger.lost, ledger.duplicated) == (0, 0), ledger
    assert ledger.is_clean, ledger


@pytest.mark.parametrize("name", suite.CASES)
def test_whatever_breaks_each_accepted_request_is_answered_once(stage, name):
    check(asyncio.run(suite.run(name, suite.CASES[name], stage, SHORT)))


@pytest.mark.parametrize("name", suite.DURABLE)
def test_what_nobody_waits_for_is_kept(durable_stage, name):
    check(asyncio.run(suite.run(name, suite.DURABLE[name], durable_stage, SHORT)))


@pytest.mark.parametrize("name", suite.ALONE)
def test_the_same_with_a_server_of_its_own(tmp_path, name):
    check(asyncio.run(suite.ALONE[name](tmp_path, SHORT)))
