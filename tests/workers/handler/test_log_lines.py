"""The levels of a replica's log lines, and the tracebacks in them."""

import logging
import sys

import pytest

from workers.handler import log_lines, traces
from workers.handler.loader import InitializationFailed, _reported_as

HANDLER = """
def initialize(settings):
    return settings["treshold"]
"""


def failed():
    """The error of a handler that marq's loader has called."""
    code: dict = {}
    exec(compile(HANDLER, "/models/mine/handler.py", "exec"), code)
    try:
        with _reported_as(InitializationFailed, "Cannot initialise handler mine"):
            code["initialize"]({})
    except InitializationFailed as error:
        return error


def logged(level, message, error=None):
    record = logging.LogRecord("mine", level, "x.py", 1, message, (), error and (type(error), error, None))
    return log_lines.MarkedFormatter("%(message)s").format(record)


def test_a_traceback_has_the_frames_of_the_handler_alone():
    shown = traces.of(failed()).splitlines()
    at = shown.index('  File "/models/mine/handler.py", line 3, in initialize')
    assert shown[at + 1] == "KeyError: 'treshold'"
    assert shown[-1].endswith("InitializationFailed: Cannot initialise handler mine: KeyError: 'treshold'")
    assert not [line for line in shown if "workers/handler/loader.py" in line or "contextlib.py" in line]


def test_the_first_error_of_a_chain_is_the_handlers_own():
    assert isinstance(traces.innermost(failed()), KeyError)


def test_an_error_that_nothing_catches_is_shown_without_our_frames(capsys):
    traces.show_uncaught(InitializationFailed, failed(), None)
    shown = capsys.readouterr().err
    assert "/models/mine/handler.py" in shown
    assert "loader.py" not in shown


@pytest.mark.parametrize(
    ("level", "expected"), [(30, logging.WARNING), (40, logging.ERROR), (50, logging.ERROR)]
)
def test_each_line_of_a_record_has_its_level(level, expected):
    lines = logged(level, "one\ntwo", failed()).splitlines()
    assert {log_lines.read(line, logging.INFO)[1] for line in lines} == {expected}
    assert [log_lines.read(line, logging.INFO)[0] for line in lines[:2]] == ["one", "two"]


def test_other_lines_are_as_they_were():
    assert logged(logging.INFO, "loaded") == "loaded"
    assert log_lines.read("printed", logging.WARNING) == ("printed", logging.WARNING)
    assert log_lines.read("\x01 odd", logging.INFO) == ("\x01 odd", logging.INFO)


def test_a_line_that_a_handler_has_not_finished_loses_no_level():
    assert log_lines.read("12 %" + logged(logging.ERROR, "bad"), logging.INFO) == ("12 %bad", logging.ERROR)


def test_the_excepthook_shows_no_traceback_of_an_interrupt(capsys):
    traces.show_uncaught(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == "KeyboardInterrupt\n"
    assert sys.excepthook is sys.__excepthook__
