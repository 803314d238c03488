import multiprocessing
import socket
from pathlib import Path

import pytest

from marq import keys
from marq.connections import clients
from marq.host import node_name
from marq.host.node_name import NameTaken, NodeLease


@pytest.fixture
def client(redis_url):
    with clients.client(redis_url) as client:
        yield client


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes this the machine with an id: machine("a")."""
    path = tmp_path / "machine-id"
    monkeypatch.delenv("MARQ_NODE", raising=False)
    monkeypatch.setattr(node_name, "MACHINE_IDS", (tmp_path / "none", path))
    return path.write_text


def test_cloned_machines_of_one_host_name_have_different_names(machine, tmp_path):
    machine("a\n")
    first = node_name.node_name(tmp_path)
    machine("b\n")
    assert node_name.node_name(tmp_path) != first
    machine("a\n")
    assert node_name.node_name(tmp_path) == first
    assert first.startswith(f"{socket.gethostname()}-")


def test_nodes_of_one_machine_with_different_state_directories_have_different_names(machine, tmp_path):
    machine("a")
    assert node_name.node_name(tmp_path / "1") != node_name.node_name(tmp_path / "2")


def test_the_name_is_the_same_without_an_id_of_the_machine(machine, tmp_path):
    assert node_name.node_name(tmp_path) == node_name.node_name(tmp_path)


def test_a_given_name_is_the_name(machine, tmp_path, monkeypatch):
    monkeypatch.setenv("MARQ_NODE", "gpu-2")
    assert node_name.node_name(tmp_path) == "gpu-2"


def hold_for_ever(redis_url: str, state_dir: Path, held) -> None:
    lease = NodeLease(clients.client(redis_url), "n", state_dir)
    lease.hold()
    held.set()
    while True:
        lease.hold()


@pytest.fixture
def other_node(redis_url, tmp_path):
    """A process that has the name `n`, and renews it."""
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=hold_for_ever, args=(redis_url, tmp_path / "other", held))
    process.start()
    assert held.wait(60)
    yield process
    process.kill()
    process.join()


@pytest.mark.parametrize("state_dir", ["own", "other"])
def test_the_name_of_a_live_node_is_refused_and_that_node_is_named(client, tmp_path, other_node, state_dir):
    with pytest.raises(NameTaken, match=f'"n" runs already: process {other_node.pid} on the host'):
        NodeLease(client, "n", tmp_path / state_dir).hold()


def test_a_node_that_is_started_again_has_its_name_at_once(client, tmp_path, other_node):
    # Given a node that was killed; its lease has not run out
    other_node.kill()
    other_node.join()
    client.persist(keys.node_owner("n"))
    # Then its successor, which has the same state directory, goes on with the lease
    lease = NodeLease(client, "n", tmp_path / "other")
    lease.hold()
    assert lease.owner.pid != other_node.pid


def test_a_copy_of_the_state_directory_on_another_machine_does_not_have_the_name(
    client, tmp_path, other_node, monkeypatch
):
    other_node.kill()
    other_node.join()
    monkeypatch.setattr(node_name, "BOOT_ID", tmp_path / "boot")
    (tmp_path / "boot").write_text("another")
    token = client.get(keys.node_owner("n")).split()[0].decode()
    assert NodeLease(client, "n", tmp_path / "other").owner.token != token


def test_the_name_of_a_lost_node_is_taken_when_its_lease_has_run_out(client, tmp_path, other_node):
    other_node.kill()
    other_node.join()
    client.pexpire(keys.node_owner("n"), 1500)
    NodeLease(client, "n", tmp_path / "own").hold()


def test_a_node_that_has_lost_its_name_ends(client, tmp_path):
    first, second = (NodeLease(client, "n", tmp_path / name) for name in ("1", "2"))
    first.hold()
    client.delete(keys.node_owner("n"))  # it was stopped for too long
    second.hold()
    with pytest.raises(NameTaken):
        first.hold()
    second.hold()
