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


FAKE_TORCH = """
class version:
    hip = {hip!r}

class facts:
    total_memory, name = 64 << 30, {name!r}

class cuda:
    is_available = staticmethod(lambda: bool(version.hip))
    device_count = staticmethod(lambda: 2)
    get_device_properties = staticmethod(lambda number: facts)

class xpu(cuda):
    is_available = staticmethod(lambda: not version.hip)

class backends:
    class mps:
        is_available = staticmethod(lambda: False)
"""


@pytest.fixture
def torch_says(driver, tmp_path, monkeypatch):
    """A host without NVIDIA's driver, whose torch knows two other devices."""
    driver.nvmlDeviceGetCount = lambda: 0
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    gpus._others.cache_clear()
    yield lambda **given: (tmp_path / "torch.py").write_text(FAKE_TORCH.format(**given))
    gpus._others.cache_clear()


def test_devices_of_amd_are_those_that_torch_knows(torch_says, tmp_path, monkeypatch):
    torch_says(hip="6.2", name="MI300X")
    monkeypatch.setattr(gpus, "AMD_DRIVER", tmp_path)
    found = gpus.found()
    assert (found.kind, found.devices) == ("rocm", ((64 << 30, "MI300X"),) * 2)
    assert gpus.visible(1) == [0]


def test_devices_of_intel_count_where_they_are_switched_on(torch_says, tmp_path, monkeypatch):
    torch_says(hip=None, name="Max 1550")
    monkeypatch.setattr(gpus, "AMD_DRIVER", tmp_path / "none")
    assert gpus.found() == gpus.Found("")
    gpus._others.cache_clear()
    monkeypatch.setenv("TS_IPEX_GPU_ENABLE", "true")
    assert (gpus.found().kind, len(gpus.found().devices)) == ("xpu", 2)


def test_a_torch_that_cannot_be_asked_has_no_devices(torch_says, tmp_path, monkeypatch, caplog):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch')")
    monkeypatch.setattr(gpus, "AMD_DRIVER", tmp_path)
    assert gpus.found() == gpus.Found("")
    assert "torch cannot say which devices this host has" in caplog.text


def test_memory_and_name_of_each_gpu_come_from_the_driver(driver, monkeypatch):
    driver.nvmlDeviceGetHandleByIndex = int
    driver.nvmlDeviceGetName = lambda number: f"GPU {number}".encode()
    driver.nvmlDeviceGetMemoryInfo = lambda number: SimpleNamespace(total=(number + 1) << 30)
    assert gpus.found().devices == ((1 << 30, "GPU 0"), (2 << 30, "GPU 1"), (3 << 30, "GPU 2"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,MIG-7")
    assert gpus.found().devices == ((3 << 30, "GPU 2"), (0, ""))
