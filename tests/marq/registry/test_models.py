import json
from dataclasses import replace

import pytest
from thread_replica import make_spec

from marq import keys
from marq.errors import Conflict, InvalidModelVersion, ModelNotFound, ModelVersionNotFound
from marq.registry.models import HEARTBEAT_LIMIT_S
from marq.registry.reports import PoolReport, ReplicaReport
from marq.registry.spec import ModelSpec


def running(*pids: int) -> PoolReport:
    replicas = (ReplicaReport(slot, pid, "cpu", "ready", started=0.0) for slot, pid in enumerate(pids))
    return PoolReport("host", len(pids), replicas=tuple(replicas))


def pids(report: PoolReport) -> list[int]:
    return [replica.pid for replica in report.replicas]


def announced(client) -> list[tuple[str, str]]:
    return [
        (fields[b"action"].decode(), fields[b"version"].decode())
        for _, fields in client.xrange(keys.MANAGEMENT)
    ]


def test_a_spec_is_the_same_after_it_was_stored():
    spec = make_spec("größe", "1.0 b", device_ids=[1, 0], batch_size=8)
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_a_spec_of_a_later_marq_can_be_read():
    text = json.dumps({**json.loads(make_spec().to_json()), "colour": "red"})
    assert ModelSpec.from_json(text) == make_spec()


def test_an_empty_registry_has_no_models(registry):
    models = registry.models()
    assert list(models) == []
    with pytest.raises(ModelNotFound, match="Model not found: echo"):
        models.get("echo")


def test_the_first_version_is_the_default(registry):
    # Given two versions
    first, second = make_spec(version="1.0"), make_spec(version="2.0")
    registry.register(first)
    registry.register(second)
    # Then both are there and the first is the default
    models = registry.models()
    assert models.versions("echo") == {"1.0": first, "2.0": second}
    assert models.get("echo") == models.get("echo", "1.0") == first
    assert models.get("echo", "2.0") == second
    assert sorted(models, key=lambda spec: spec.version) == [first, second]


def test_an_unknown_version_is_told(registry, spec):
    with pytest.raises(ModelVersionNotFound, match=r"Model version: 9 does not exist for model: echo"):
        registry.models().get("echo", "9")


def test_a_version_is_registered_once(registry, spec):
    with pytest.raises(Conflict, match=r"Model version 1.0 is already registered for model echo"):
        registry.register(replace(spec, batch_size=9))
    assert registry.models().get("echo") == spec


def test_put_replaces_the_settings(registry, spec, client):
    changed = replace(spec, batch_size=9)
    registry.put(changed)
    assert registry.models().get("echo") == changed
    assert announced(client) == [("register", "1.0"), ("put", "1.0")]


def test_put_adds_what_is_not_there(registry):
    registry.put(make_spec())
    assert registry.models().get("echo") == make_spec()


def test_scaling_changes_the_number_of_workers_alone(registry, spec, client):
    scaled = registry.scale(spec, 2, 5).spec
    assert scaled == replace(spec, min_workers=2, max_workers=5) == registry.models().get("echo")
    assert announced(client)[-1] == ("scale", "1.0")


def test_the_attempts_that_are_allowed_can_be_changed_alone(registry, spec, client):
    changed = registry.adjust(spec, max_attempts=7).spec
    assert changed == replace(spec, max_attempts=7) == registry.current(spec)
    assert announced(client)[-1] == ("scale", "1.0")
    with pytest.raises(ModelVersionNotFound):
        registry.adjust(make_spec(version="9"), max_attempts=7)


def test_a_version_that_is_gone_is_as_it_was_known(registry, spec):
    registry.unregister(spec)
    assert registry.current(spec) == spec


def test_another_version_can_be_made_the_default(registry, spec, client):
    second = make_spec(version="2.0")
    registry.register(second)
    registry.set_default("echo", "2.0")
    assert registry.models().get("echo") == second
    assert announced(client)[-1] == ("set-default", "2.0")


def test_only_what_is_registered_can_be_the_default(registry, spec):
    with pytest.raises(ModelVersionNotFound, match=r"Model version 9 does not exist for model echo"):
        registry.set_default("echo", "9")
    with pytest.raises(ModelNotFound, match="Model not found: nope"):
        registry.set_default("nope", "1.0")
    assert registry.models().get("echo") == spec


def test_the_default_version_is_removed_last(registry, spec, client):
    # Given two versions
    second = make_spec(version="2.0")
    registry.register(second)
    # When the default one is removed, it is refused
    with pytest.raises(InvalidModelVersion, match="Cannot remove default version for model echo"):
        registry.unregister(spec)
    # Then the other can be removed, and the default one after it
    registry.unregister(second)
    registry.unregister(spec)
    assert list(registry.models()) == []
    assert announced(client)[-2:] == [("unregister", "2.0"), ("unregister", "1.0")]


def test_a_model_can_be_registered_again_with_another_default(registry, spec):
    registry.unregister(spec)
    registry.register(make_spec(version="2.0"))
    assert registry.models().get("echo").version == "2.0"


def test_replicas_of_pools_that_report_are_there(registry, spec, monkeypatch):
    # Given two pools, of which one was last heard of too long ago
    monkeypatch.setattr(registry, "now", lambda: 1000.0)
    registry.report(spec, "old@a", running(1))
    monkeypatch.setattr(registry, "now", lambda: 1000.5 + HEARTBEAT_LIMIT_S)
    registry.report(spec, "new@b", running(2, 3))
    # Then only the other's replicas count, while both reports can be read
    assert [replica.pid for replica in registry.replicas(spec)] == [2, 3]
    assert list(registry.live_reports(spec)) == ["new@b"]
    assert {name: report.reported for name, report in registry.reports(spec).items()} == {
        "old@a": 1000.0, "new@b": 1010.5,
    }  # fmt: skip
    # When it reports again it is back, and when it withdraws it is forgotten
    registry.report(spec, "old@a", running(1))
    assert len(registry.replicas(spec)) == 3
    registry.withdraw(spec, "old@a")
    assert set(registry.reports(spec)) == {"new@b"}


def test_reports_of_versions_are_apart(registry, spec):
    registry.report(spec, "pool", running(1))
    assert registry.replicas(make_spec(version="2.0")) == []


def test_the_audit_log_is_bounded(registry, spec, client):
    for _ in range(1300):
        registry.announce("scale", spec)
    assert client.xlen(keys.MANAGEMENT) <= 1200


def test_a_snapshot_has_all_models_and_the_reports_of_live_pools(registry, monkeypatch):
    first, second, silent = (make_spec(name) for name in ("first", "second", "silent"))
    for each in (first, second, silent):
        registry.register(each)
    now = registry.now()
    monkeypatch.setattr(registry, "now", lambda: now - 2 * HEARTBEAT_LIMIT_S)
    registry.report(second, "lost@a", running(1))
    monkeypatch.setattr(registry, "now", lambda: now)
    registry.report(second, "pool@c", running(3))
    registry.report(second, "pool@b", running(2))
    registry.report(first, "pool@b", running())
    snapshot = registry.snapshot()
    assert snapshot.models == registry.models()
    assert [pids(report) for report in snapshot.of(first)] == [[]]
    assert [pids(report) for report in snapshot.of(second)] == [[2], [3]]
    assert snapshot.of(silent) == []


def test_a_snapshot_of_many_models_takes_one_round_trip(registry, round_trips):
    for number in range(200):
        spec = make_spec(f"m{number}")
        registry.register(spec)
        registry.report(spec, "pool@a", running(number))
    round_trips.clear()
    snapshot = registry.snapshot()
    assert len(round_trips) == 1
    found = {replica.pid for spec in snapshot.models for replica in snapshot.replicas(spec)}
    assert found == {*range(200)}


def test_a_snapshot_of_an_empty_registry_is_empty(registry):
    assert list(registry.snapshot().models) == []


def test_a_spec_is_parsed_when_its_text_changes_only(registry, spec):
    registry.put(spec)
    first = registry.models().get(spec.name)
    assert registry.models().get(spec.name) is first
    registry.scale(spec, 3, 3)
    assert registry.models().get(spec.name).min_workers == 3
