"""Archives that are put into the model store of a running server."""

import logging
import os

import pytest

from marq.control.startup import JoinedRegistry
from marq.control.store_watch import StoreWatch
from marq.settings.fields import Settings

HANDLER = "def handle(data, context):\n    return data\n"


@pytest.fixture
def store(tmp_path):
    directory = tmp_path / "store"
    directory.mkdir()
    return directory


@pytest.fixture
def watch(store, client):
    def watch() -> StoreWatch:
        return StoreWatch(Settings(model_store=store, models="all"), JoinedRegistry(client), "here")

    return watch


def registered(registry) -> list[str]:
    return sorted(spec.key for spec in registry.models())


def test_a_new_archive_is_registered_once_it_does_not_grow(watch, store, registry, make_archive):
    # Given a watch that has seen an empty store
    one = watch()
    one.look()
    # When an archive is being copied into it
    archive = make_archive(store, "late", HANDLER)
    content = archive.read_bytes()
    archive.write_bytes(content[:100])
    one.look()
    archive.write_bytes(content)
    one.look()
    assert registered(registry) == []
    # Then it is registered when it has stayed the same
    one.look()
    assert registered(registry) == ["late/1.0"]


def test_several_hosts_register_it_once_and_keep_its_size(watch, store, registry, make_archive):
    make_archive(store, "late", HANDLER, config={"minWorkers": 2})
    first, second = watch(), watch()
    for each in (first, first):
        each.look()
    (spec,) = registry.models()
    registry.scale(spec, 5, 5)
    before = registry.current(spec)
    for each in (second, second):
        each.look()
    assert registry.current(spec) == before
    assert before.min_workers == 5


def test_a_model_that_was_unregistered_stays_so_while_its_archive_does_not_change(
    watch, store, registry, make_archive
):
    make_archive(store, "late", HANDLER)
    one = watch()
    for _ in range(2):
        one.look()
    (spec,) = registry.models()
    registry.unregister(spec)
    one.look()
    assert registered(registry) == []


def test_a_new_version_in_the_same_file_is_registered_beside_the_old_one(
    watch, store, registry, make_archive
):
    make_archive(store, "late", HANDLER)
    one = watch()
    for _ in range(2):
        one.look()
    make_archive(store, "late", HANDLER, version="2.0")
    for _ in range(2):
        one.look()
    assert registered(registry) == ["late/1.0", "late/2.0"]


def test_a_changed_archive_of_the_same_version_names_the_command_that_uses_it(
    watch, store, registry, make_archive, caplog
):
    archive = make_archive(store, "late", HANDLER)
    one = watch()
    for _ in range(2):
        one.look()
    (spec,) = registry.models()
    os.utime(archive, ns=(1, 1))
    for _ in range(3):
        one.look()
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "late.mar has changed, and its version is still 1.0: "
        "`marq reload late --version 1.0` replaces the replicas"
    ]
    assert registry.current(spec) == spec


def test_an_archive_that_cannot_be_read_is_reported_once(watch, store, registry, caplog):
    (store / "broken.mar").write_bytes(b"no archive")
    one = watch()
    for _ in range(4):
        one.look()
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].startswith("Failed to load model: broken.mar: ")


def test_a_store_that_is_not_there_is_watched_until_it_is(watch, store, registry, make_archive):
    store.rmdir()
    one = watch()
    one.look()
    make_archive(store, "late", HANDLER)
    for _ in range(2):
        one.look()
    assert registered(registry) == ["late/1.0"]
