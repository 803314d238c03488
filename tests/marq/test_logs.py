import gzip
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import wait_for

from marq import logs

DAY_S = 86_400
WRITER = """
import sys
import threading
from pathlib import Path
from marq import logs
logs.LARGEST_BYTES, logs.LOOK_EVERY_S, logs.SETTLE_S, logs.KEPT = 20_000, 0.0, 2.0, 1000
logger = logs.model_logger(Path(sys.argv[1]))
for number in range(2000):
    logger.info("%s line %d", sys.argv[2], number)
for thread in threading.enumerate():  # which pack files
    if thread is not threading.main_thread():
        thread.join()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "logs" / "model_log.log"


@pytest.fixture
def logger(path, monkeypatch):
    """The logger of model_log.log, which looks at its file before each line."""
    monkeypatch.setattr(logs, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(logs, "SETTLE_S", 0.0)
    monkeypatch.delenv("MARQ_LOG_FORMAT", raising=False)
    logger = logs.model_logger(path)
    yield logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def packed(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.*.gz"))


def test_lines_have_torchserves_format(path, logger):
    logger.warning("[m-1.0@h/0 pid 7] odd")
    expected = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{3} \[WARN \] model MODEL_LOG - \[m-1.0@h/0 pid 7\] odd\n"

    assert re.fullmatch(expected, path.read_text())


def test_json_lines_carry_all_fields(path, monkeypatch):
    monkeypatch.setenv("MARQ_LOG_FORMAT", "json")
    logger = logs.model_logger(path)
    logger.info("hello", extra={"model": "m", "slot": 3})
    try:
        raise KeyError("weights")
    except KeyError:
        logger.exception("no")
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first.pop("time")[:2] == "20"
    assert first == {
        "level": "INFO", "process": "model", "logger": "MODEL_LOG", "message": "hello",
        "model": "m", "slot": 3,
    }  # fmt: skip
    assert "KeyError: 'weights'" in second["exception"]


def test_a_file_of_yesterday_is_moved_away_and_packed(path, logger):
    # Given a line that was written yesterday
    logger.info("old")
    yesterday = time.time() - DAY_S
    os.utime(path, (yesterday, yesterday))
    # When another one is written
    logger.info("new")
    logger.info("newer")
    # Then the old one is in a file of its own, named for its day
    wait_for(lambda: packed(path), what="the packed file")
    assert [name.name for name in packed(path)] == [
        f"model_log.log.{time.strftime('%d-%b', time.localtime(yesterday))}.log.gz"
    ]
    assert "old" in gzip.decompress(packed(path)[0].read_bytes()).decode()
    assert [line.split()[-1] for line in path.read_text().splitlines()][-1] == "newer"


def test_a_large_file_is_moved_away_several_times_a_day_and_the_newest_five_are_kept(
    path, logger, monkeypatch
):
    monkeypatch.setattr(logs, "LARGEST_BYTES", 50)
    for number in range(8):
        logger.info("line %d", number)
        wait_for(lambda: not list(path.parent.glob("*.log.*.log")), what="packing")
    wait_for(lambda: len(packed(path)) == 5, what="five packed files")
    text = "".join(gzip.decompress(name.read_bytes()).decode() for name in packed(path)) + path.read_text()
    assert "line 7" in text
    assert "line 0" not in text


def test_many_processes_share_one_file_and_lose_no_line(path):
    # Given several processes that write so much that the file is rotated many times
    path.parent.mkdir()
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), f"w{number}"]) for number in range(3)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    # Then each line is in one of the files, once
    text = path.read_text() if path.exists() else ""
    for file in path.parent.iterdir():
        if file.suffix == ".gz":
            text += gzip.decompress(file.read_bytes()).decode()
        elif file != path and file.suffix == ".log":
            text += file.read_text()
    lines = sorted(line.partition(" - ")[2] for line in text.splitlines())
    assert lines == sorted(f"w{w} line {n}" for w in range(3) for n in range(2000))
    assert len(packed(path)) > 3


def test_a_process_logs_to_stderr_and_to_ts_log(tmp_path):
    code = (
        "import logging, sys; from pathlib import Path; from marq import logs\n"
        "logs.configure('gateway', Path(sys.argv[1])); logging.getLogger('gateway.x').error('broken')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "[ERROR] gateway gateway.x - broken" in done.stderr
    assert (tmp_path / "ts_log.log").read_text() == done.stderr


def test_a_line_makes_a_directory_that_was_removed_again(path, logger, capfd):
    logger.info("one")
    shutil.rmtree(path.parent)
    logger.info("two")
    assert path.read_text().endswith("two\n")
    assert capfd.readouterr().err == ""


def test_a_file_that_cannot_be_written_costs_its_lines_and_one_line_on_stderr(
    path, logger, capfd, monkeypatch
):
    # Given a directory in whose place there is a file
    monkeypatch.setattr(logs, "RETRY_S", 0.0)
    shutil.rmtree(path.parent)
    path.parent.touch()
    # When lines are written
    for number in range(100):
        logger.info("line %d", number)
    # Then that is said once, and again when it can be written
    [said] = capfd.readouterr().err.splitlines()
    assert said.startswith(f"{path} cannot be written, its lines are lost until it can: ")
    path.parent.unlink()
    logger.info("again")
    assert path.read_text().endswith("again\n")
    assert capfd.readouterr().err == f"{path} is written again; 100 lines are missing there\n"


def test_a_full_disk_costs_the_lines_and_one_line_on_stderr(capfd, monkeypatch):
    monkeypatch.setattr(logs, "RETRY_S", 0.0)
    text = logs.SharedText(Path("/dev/full"))
    for _ in range(100):
        text.write("a line\n")
    assert capfd.readouterr().err.splitlines() == [
        "/dev/full cannot be written, its lines are lost until it can: No space left on device"
    ]


def test_a_file_that_cannot_be_written_is_tried_again_after_a_while_only(path, monkeypatch, capfd):
    # Given a file that could not be opened
    monkeypatch.setattr(logs, "RETRY_S", 1000.0)
    path.parent.touch()
    text = logs.SharedText(path)
    # When lines come soon afterwards
    path.parent.unlink()
    text.write("a line\n")
    assert not path.exists()
    # Then only a later one is written
    text._retry_at = 0.0
    text.write("another line\n")
    assert path.read_text() == "another line\n"
    assert capfd.readouterr().err.splitlines()[-1].endswith("1 lines are missing there")


def test_levels_have_log4js_names_in_lines_and_python_s_elsewhere():
    record = logging.makeLogRecord(
        {"levelno": logging.WARNING, "levelname": "WARNING", "msg": "full", "name": "x"}
    )
    assert "[WARN ] gateway x - full" in logs.formatter("gateway").format(record)
    assert logging.getLevelName(logging.WARNING) == "WARNING"
