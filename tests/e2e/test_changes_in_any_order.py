"""A running server against a model of it: whatever is changed or killed, all views of it agree afterwards."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import churn
import httpx
import psutil
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from support import RunningServer, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
AGREE_S = 100.0
SIZES = st.integers(min_value=0, max_value=2)
Key = tuple[str, str]
KEYS = st.tuples(st.sampled_from(churn.NAMES), st.sampled_from(churn.VERSIONS))
# About a minute
LIMITS = settings(
    max_examples=3, stateful_step_count=12, deadline=None, derandomize=True, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.fixture(scope="module")
def server(serve_models, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    churn.pack(store, tmp_path_factory.mktemp("sources"))
    running: RunningServer = serve_models(store, [])
    return running


class ServerMachine(RuleBasedStateMachine):
    """One client does one thing after the other; now and then a replica is killed."""

    server: ClassVar[RunningServer]

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[Key, int] = {}
        self.defaults: dict[str, str] = {}

    @rule(key=KEYS, size=SIZES)
    def register(self, key: Key, size: int) -> None:
        query = {"url": f"{'-'.join(key)}.mar", "initial_workers": size, "synchronous": "true"}
        self.expect(409 if key in self.sizes else 200, "POST", "/models", **query)
        if key not in self.sizes:
            self.sizes[key] = size
            self.defaults.setdefault(*key)
        self.check()

    @rule(key=KEYS)
    def unregister(self, key: Key) -> None:
        name, version = key
        others = [other for other in self.sizes if other[0] == name and other != key]
        if key not in self.sizes:
            self.expect(404, "DELETE", path_of(key))
        elif self.defaults[name] == version and others:
            self.expect(403, "DELETE", path_of(key))
        else:
            self.expect(200, "DELETE", path_of(key))
            del self.sizes[key]
            if not others:
                del self.defaults[name]
        self.check()

    @rule(key=KEYS)
    def set_default(self, key: Key) -> None:
        self.expect(200 if key in self.sizes else 404, "PUT", f"{path_of(key)}/set-default")
        if key in self.sizes:
            self.defaults[key[0]] = key[1]
        self.check()

    @rule(key=KEYS, size=SIZES)
    def scale(self, key: Key, size: int) -> None:
        query = {"min_worker": size, "max_worker": size, "synchronous": "true"}
        self.expect(200 if key in self.sizes else 404, "PUT", path_of(key), **query)
        if key in self.sizes:
            self.sizes[key] = size
        self.check()

    @precondition(lambda self: self.sizes)
    @rule(data=st.data())
    def reload(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.sizes)))
        self.expect(200, "POST", f"{path_of(key)}/reload", synchronous="true")
        self.check()

    @precondition(lambda self: any(self.sizes.values()))
    @rule(data=st.data())
    def kill_a_replica(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(key for key, size in self.sizes.items() if size)))
        [described] = httpx.get(f"{self.server.management}{path_of(key)}").json()
        victim = described["workers"][0]["pid"]
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: not is_running(victim), what="the end of the replica")
        self.check()

    def expect(self, status: int, method: str, path: str, **query: Any) -> None:
        answer = httpx.request(method, f"{self.server.management}{path}", params=query, timeout=AGREE_S)
        assert answer.status_code == status, f"{method} {path} {query}: {answer.text}"

    def check(self) -> None:
        """The registry is as the answers said; gateways, describe, status and the processes agree with it."""
        assert churn.registered(self.server) == (self.sizes, self.defaults)
        differences: list[str] = []

        def agree() -> bool:
            differences[:] = churn.disagreements(self.server)
            return not differences

        try:
            wait_for(agree, AGREE_S, "agreement", self.server.log)
        except AssertionError as error:
            raise AssertionError(differences) from error

    def teardown(self) -> None:
        churn.clear(self.server)


def path_of(key: Key) -> str:
    return f"/models/{'/'.join(key)}"


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def machine(server: RunningServer) -> Iterator[type[ServerMachine]]:
    ServerMachine.server = server
    yield ServerMachine


def test_all_views_agree_after_each_change_in_any_order(machine: type[ServerMachine]) -> None:
    run_state_machine_as_test(machine, settings=LIMITS)
