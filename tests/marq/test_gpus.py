import sys
from types import SimpleNamespace

import pytest

from marq import gpus


class NVMLError(Exception):
    """What the NVIDIA library raises where there is no driver."""


@pytest.fixture
def driver(monkeypatch):
    """A host with three GPUs, as NVIDIA's library tells it."""
    library = SimpleNamespace(
        NVMLError=NVMLError, nvmlInit=lambda: None, nvmlDeviceGetCount=lambda: 3, nvmlShutdown=lambda: None
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return library


def test_all_gpus_of_the_driver_are_used(driver):
    assert gpus.visible() == [0, 1, 2]


def test_a_host_without_a_driver_has_none(driver):
    def fail():
        raise NVMLError("Driver Not Loaded")

    driver.nvmlInit = fail
    assert gpus.visible() == []


@pytest.mark.parametrize(("limit", "found"), [(None, 3), (0, 0), (2, 2), (9, 3)])
def test_there_may_be_a_limit(driver, limit, found):
    assert len(gpus.visible(limit)) == found


@pytest.mark.parametrize(
    ("variable", "found"),
    [
        ("", []),
        ("-1", []),
        ("2", [0]),
        ("1,0", [0, 1]),
        (" 0 , 2 ", [0, 1]),
        ("0,-1,1", [0]),
        ("GPU-8f,GPU-9a", [0, 1]),
    ],
)
def test_what_the_environment_hides_is_not_used(driver, monkeypatch, variable, found):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert gpus.visible() == found
