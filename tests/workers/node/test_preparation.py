"""What a node makes ready for models, and what it deletes again."""

import os
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import pytest
from support import wait_for
from thread_replica import make_spec
from wheels import make_wheel

from archive.packing.writer import ArchiveSpec, write
from marq.connections import clients
from marq.registry.models import Registry
from marq.registry.spec import ModelSpec
from marq.settings import loading
from workers.node import preparation, prepared_models
from workers.node.preparation import Preparation, Preparations, Prepared
from workers.node.reconciler import Node

DAY_S = 24 * 3600
HANDLER = "def handle(data, context):\n    return None if data is None else ['ok'] * len(data)\n"


@pytest.fixture
def config(redis_url, tmp_path):
    return loading.load(redis_url=redis_url, state_dir=tmp_path / "state", number_of_gpu=0)


@pytest.fixture
def preparations(config):
    preparations = Preparations(config, on_done=lambda: None)
    yield preparations
    preparations.stop()


@pytest.fixture
def registry(redis_url):
    with clients.client(redis_url) as client:
        yield Registry(client)


@pytest.fixture
def pack(tmp_path):
    """Packs a model: pack("m", requirements="tinytool") -> its spec."""

    def pack(name, requirements=None, **options):
        folder = tmp_path / "sources" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "handler.py").write_text(HANDLER + f"# {name}\n")
        if requirements is not None:
            (folder / "requirements.txt").write_text(requirements)
            options["requirements"] = "requirements.txt"
        wheel = make_wheel(folder, "tinytool", "1.0", f"NAME = {name!r}\n")
        path = write(
            ArchiveSpec(
                model_name=name, version="1.0", handler=str(folder / "handler.py"), export_path=tmp_path,
                requirements_file=str(folder / "requirements.txt") if requirements else None,
                extra_files=(str(wheel),), force=True,
            )
        )  # fmt: skip
        return ModelSpec(name, "1.0", path.name, str(path), "handler.py", **options)

    return pack


ONE_WHEEL = "--no-index\n./tinytool-1.0-py3-none-any.whl\n"
IMPOSSIBLE = "--no-index\nthere-is-no-such-package\n"


@pytest.fixture
def make_node(config, monkeypatch):
    """A node in this process whose clean-up is always due: make_node() -> a function that looks once."""
    monkeypatch.setattr(prepared_models, "TIDY_EVERY_S", 0.0)
    nodes = []

    def make(name="host"):
        nodes.append(Node(config, name))
        return nodes[-1]

    yield make
    for node in nodes:
        node.stop_soon()
        node.run()


def aged(path, by_s):
    os.utime(path, (time.time() - by_s,) * 2)
    return path


def succeed(each):
    each.advance()
    return each.prepared


def test_a_model_without_dependencies_is_only_unpacked(preparations, pack, config):
    begun = preparations.begin(pack("m"), "m")
    prepared = wait_for(lambda: succeed(begun))
    assert (prepared.model_dir / "handler.py").is_file()
    assert (prepared.python, prepared.dependency_dir) == (sys.executable, "")
    assert not config.dependencies_dir.exists()


def test_what_fails_is_told_and_tried_again(preparations, pack, monkeypatch):
    monkeypatch.setattr(preparation, "RETRY_S", (0.1,))
    spec = pack("m")
    archive = Path(spec.archive).read_bytes()
    Path(spec.archive).write_bytes(b"no archive")
    begun = preparations.begin(spec, "m")
    assert begun.report("host", 1).preparing
    wait_for(lambda: begun.advance() or begun.failing)
    report = begun.report("host", 1)
    assert report.reason.startswith("the archive cannot be unpacked: ")
    assert (report.failures, report.wanted, report.preparing) == (1, 0, False)
    assert time.time() - report.failing_since < 600
    Path(spec.archive).write_bytes(archive)
    assert wait_for(lambda: succeed(begun)).model_dir.is_dir()
    assert begun.report("host", 1).failures == 0


def test_an_attempt_that_ends_while_a_node_compares_counts_at_the_next_comparison(tmp_path):
    ends: Future[Prepared] = Future()
    begun = Preparation(make_spec("m"), lambda: ends)
    begun.advance()
    ends.set_result(Prepared(tmp_path, tmp_path))
    assert begun.report("host", 1).preparing and not begun.prepared
    begun.advance()
    assert not begun.report("host", 1).preparing and begun.prepared


def test_a_node_prepares_models_that_it_need_not_run(make_node, registry, pack):
    spec = pack("m", ONE_WHEEL)
    registry.register(spec)
    node = make_node()

    def prepared():
        node.reconcile()
        reports = registry.reports(spec).values()
        return [report for report in reports if not report.preparing]

    (report,) = wait_for(prepared)
    assert (report.node, report.failures, report.wanted) == ("host", 0, 0)


def test_a_node_that_cannot_install_says_so_as_long_as_the_model_is_registered(make_node, registry, pack):
    spec = pack("m", IMPOSSIBLE)
    registry.register(spec)
    node = make_node()

    def failed():
        node.reconcile()
        return [report for report in registry.live_reports(spec).values() if report.failures]

    (report,) = wait_for(failed)
    assert "there-is-no-such-package" in report.reason
    registry.unregister(spec)
    node.reconcile()
    assert registry.reports(spec) == {}


def test_what_no_model_needs_is_deleted_after_a_day(make_node, registry, pack, config, preparations):
    # Given a registered model, and what others have left behind
    kept, new, old = pack("kept", ONE_WHEEL), pack("new", ONE_WHEEL), pack("old", ONE_WHEEL)
    made = {}
    for spec in (kept, new, old):
        begun = preparations.begin(spec, spec.name)
        made[spec.name] = wait_for(lambda begun=begun: succeed(begun))
    registry.register(kept)
    for name in ("kept", "old"):
        aged(made[name].unpacked, 2 * DAY_S)
        aged(made[name].model_dir, 2 * DAY_S)
        aged(made[name].dependencies.path, 2 * DAY_S)
    # When a node has been there for a while
    node, old = make_node(), made["old"]

    def tidied():
        node.reconcile()
        return not any(path.exists() for path in (old.unpacked, old.model_dir, old.dependencies.path))

    wait_for(tidied, what="the clean-up")
    # Then only what is old and unused is gone, and what is used counts as new
    for name in ("kept", "new"):
        assert made[name].unpacked.is_dir()
        assert made[name].dependencies.path.is_dir()
    assert time.time() - made["kept"].dependencies.path.stat().st_mtime < DAY_S


def test_what_a_running_pool_uses_stays_also_when_its_archive_changed(make_node, registry, pack, config):
    spec = pack("m", ONE_WHEEL, min_workers=1, max_workers=1)
    registry.register(spec)
    node = make_node()

    def is_ready():
        node.reconcile()
        return any(replica.is_ready for replica in registry.replicas(spec))

    wait_for(is_ready, 60, "a replica")
    used = [*config.unpacked_dir.glob("*/"), *config.dependencies_dir.glob("*/packages")]
    for path in [config.unpacked_dir, config.dependencies_dir]:
        for folder in path.iterdir():
            aged(folder, 2 * DAY_S)
    unused = config.unpacked_dir / ("0" * 64)
    unused.mkdir()
    aged(unused, 2 * DAY_S)
    Path(spec.archive).write_bytes(b"another archive")

    def tidied():
        node.reconcile()
        return not unused.exists()

    wait_for(tidied, what="the clean-up")
    assert len(used) >= 2
    assert all(path.exists() for path in used)
