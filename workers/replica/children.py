"""Processes that a handler starts: default signals, no connection of the replica, an end with the replica.

Programs that a handler runs (`subprocess`, the start method `spawn`) get this from the operating system, as
the replica leaves SIGINT and the signal mask alone and its files are closed at `exec`. Forks need the rest.
"""

import os
import signal
import threading

from marq.connections import blocking
from marq.host.processes import end_with_parent

_replica_pid = 0
_own_sigterm: object = signal.SIG_DFL
_forking = threading.local()


def prepare() -> None:
    """Called once, by the main thread, before the handler is loaded."""
    global _replica_pid
    _replica_pid = os.getpid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.register_at_fork(
        before=_hold_signals, after_in_parent=_release_signals, after_in_child=_become_ordinary
    )


def note_sigterm() -> None:
    """The present SIGTERM handler is the replica's own: forks do not keep it."""
    global _own_sigterm
    _own_sigterm = signal.getsignal(signal.SIGTERM)


def _hold_signals() -> None:
    """Blocks signals while a fork has the replica's handlers: these would swallow a signal sent to the fork.

    `Pool.terminate` sends SIGTERM to a child that has just started, and waits for its end.
    """
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    _forking.is_main = threading.current_thread() is threading.main_thread()


def _release_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _become_ordinary() -> None:
    """Runs in a fork, before the handler's code does."""
    if os.getppid() == _replica_pid:  # else a grandchild: its parent has done this
        if signal.getsignal(signal.SIGTERM) == _own_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
        blocking.close_all()
        if _forking.is_main:
            # The kernel's rule is about the thread that forked: others may end earlier than the replica does.
            end_with_parent(signal.SIGKILL)
    _release_signals()
