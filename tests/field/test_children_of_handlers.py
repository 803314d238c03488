"""Handlers that start processes: these behave as in any Python program, and end with the replica."""

import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
from support import RunningServer, wait_for

HANDLER = '''
import concurrent.futures, json, multiprocessing, os, signal, socket, subprocess, threading, time


def square(number):
    return number * number


def report_signals(_):
    """What a child finds: its handlers, its blocked signals, its sockets."""
    connected = [n for n in os.listdir("/proc/self/fd") if _is_connected(int(n))]
    return {
        "SIGTERM": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
        "SIGINT": signal.getsignal(signal.SIGINT) in (signal.SIG_DFL, signal.default_int_handler),
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "connections": len(connected),
    }


def _is_connected(number):
    try:
        with socket.socket(fileno=os.dup(number)) as copy:
            return bool(copy.getpeername())  # the event loop's own pair has no name
    except OSError:
        return False


def sleep(seconds):
    time.sleep(seconds)


def pool(context, method):
    with multiprocessing.get_context(method).Pool(3) as processes:
        return processes.map(square, range(5))


def terminate(context, method):
    child = multiprocessing.get_context(method).Process(target=sleep, args=(60,))
    child.start()
    child.join(0.2)
    child.terminate()
    child.join(20)
    return child.exitcode


def futures(context, method):
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context(method)) as executor:
        return list(executor.map(square, range(5)))


def signals(context, method):
    with multiprocessing.get_context(method).Pool(1) as processes:
        return processes.map(report_signals, [0])[0]


def from_a_thread(context, method):
    found = []
    thread = threading.Thread(target=lambda: found.append(pool(context, method)))
    thread.start()
    thread.join()
    return found[0]


def started_by_a_thread_that_ends(context, method):
    children = []
    start = lambda: children.append(multiprocessing.get_context(method).Process(target=sleep, args=(1,)))
    thread = threading.Thread(target=lambda: (start(), children[0].start()))
    thread.start()
    thread.join()
    children[0].join(20)
    return children[0].exitcode


def loader(context, method):
    import torch.utils.data
    rows = torch.utils.data.DataLoader(list(range(6)), num_workers=2, multiprocessing_context=method)
    return [int(row) for row in rows]


def torch_processes(context, method):
    import torch.multiprocessing
    return torch.multiprocessing.start_processes(
        square, args=(), nprocs=2, join=True, start_method=method
    ) is None


def os_fork(context, method):
    child = os.fork()
    if child == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fork_that_returns(context, method):
    """A mistake: the child comes back from the handler, too."""
    child = os.fork()
    if child == 0:
        return "the answer of the child"
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def interrupted_program(context, method):
    child = subprocess.Popen(["sleep", "60"])
    child.send_signal(signal.SIGINT)
    return child.wait(20)


def left_behind(context, method):
    forked = multiprocessing.get_context(method).Process(target=sleep, args=(600,))
    forked.start()
    started = subprocess.Popen(["sleep", "600"], start_new_session=True)
    daemon = subprocess.run(
        ["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 & echo $!"], capture_output=True, text=True
    )
    return [forked.pid, started.pid, int(daemon.stdout)]


def handle(data, context):
    if data is None:
        return None
    answers = []
    for row in data:
        name, method = bytes(row["body"]).decode().split()
        answers.append(json.dumps(globals()[name](context, method)))
    return answers
'''

ASYNC_HANDLER = HANDLER.replace("def handle(", "async def handle(")
METHODS = ["fork", pytest.param("spawn", marks=pytest.mark.slow)]  # spawned processes import torch again
Ask = Callable[[str, str], object]


@pytest.fixture(scope="module", params=["sync", "async"])
def server(
    request: pytest.FixtureRequest, serve_models: Callable[..., RunningServer],
    make_archive: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory,
) -> tuple[RunningServer, str]:  # fmt: skip
    store = tmp_path_factory.mktemp("store")
    name = f"children_{request.param}"
    config = {"minWorkers": 1, "maxWorkers": 1, "responseTimeout": 60}
    if request.param == "async":
        make_archive(store, name, ASYNC_HANDLER, config | {"asyncCommunication": True})
    else:
        make_archive(store, name, HANDLER, config)
    running = serve_models(store)
    running.wait_until_ready(name)
    return running, name


@pytest.fixture
def ask(server: tuple[RunningServer, str]) -> Ask:
    """Runs a function of the handler, with a start method; returns its answer."""

    def run(function: str, method: str = "fork") -> object:
        running, name = server
        url = f"{running.inference}/predictions/{name}"
        answer = httpx.post(url, content=f"{function} {method}", timeout=70)
        assert answer.status_code == 200, (answer.text, running.model_log[-3000:])
        return answer.json()

    return run


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_answers_ten_requests_of_ten(ask: Ask, method: str) -> None:
    rounds = 10 if method == "fork" else 2
    assert [ask("pool", method) for _ in range(rounds)] == [[0, 1, 4, 9, 16]] * rounds


@pytest.mark.parametrize("method", METHODS)
def test_terminate_ends_a_child(ask: Ask, method: str) -> None:
    assert ask("terminate", method) == -signal.SIGTERM


@pytest.mark.parametrize("method", METHODS)
def test_a_process_pool_executor_answers(ask: Ask, method: str) -> None:
    assert ask("futures", method) == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("method", METHODS)
def test_a_child_has_default_signals_and_none_of_the_replicas_connections(ask: Ask, method: str) -> None:
    found = ask("signals", method)
    assert found == {"SIGTERM": True, "SIGINT": True, "blocked": [], "connections": 0}


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_may_be_started_from_a_thread(ask: Ask, method: str) -> None:
    assert ask("from_a_thread", method) == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("method", METHODS)
def test_a_child_lives_on_when_the_thread_that_started_it_has_ended(ask: Ask, method: str) -> None:
    assert ask("started_by_a_thread_that_ends", method) == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_data_loader_has_workers(ask: Ask, method: str) -> None:
    assert ask("loader", method) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("method", METHODS)
def test_torch_multiprocessing_starts_processes(ask: Ask, method: str) -> None:
    assert ask("torch_processes", method) is True


def test_a_fork_has_its_own_exit_code(ask: Ask) -> None:
    assert ask("os_fork") == 7


def test_a_fork_that_returns_from_the_handler_ends_and_answers_nothing(ask: Ask) -> None:
    assert ask("fork_that_returns") == 1
    assert ask("os_fork") == 7


def test_ctrl_c_ends_a_program_that_a_handler_started(ask: Ask) -> None:
    assert ask("interrupted_program") == -signal.SIGINT


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("of_pool", [False, True], ids=["replica", "pool"])
def test_children_that_outlive_the_handler_end_with_its_replica_and_its_pool(
    ask: Ask, server: tuple[RunningServer, str], method: str, of_pool: bool
) -> None:
    running, name = server
    children = ask("left_behind", method)
    assert isinstance(children, list)
    assert all(map(_runs, children))
    replica = psutil.Process(running.workers(name)[0]["pid"])
    killed = replica.parent() if of_pool else replica
    assert killed is not None
    killed.kill()
    wait_for(lambda: not any(map(_runs, children)), 20, "the end of the handler's children")
    wait_for(lambda: not replica.is_running(), 20, "the end of the replica")
    running.wait_until_ready(name)
    assert ask("os_fork") == 7


def _runs(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False
