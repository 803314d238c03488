import subprocess
import sys
from pathlib import Path

import ports

TAKE = """
import sys
sys.path.insert(0, sys.argv[1])
from ports import free_port
print(*(free_port() for _ in range(50)), flush=True)
input()
"""


def test_processes_that_run_together_never_get_the_same_port():
    # Given processes that have taken several blocks of ports, beside this one
    command = [sys.executable, "-c", TAKE, str(Path(ports.__file__).parent)]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    taken = [int(port) for process in started for port in process.stdout.readline().split()]
    taken += [ports.free_port() for _ in range(50)]
    for process in started:
        process.communicate("\n")
    # Then each port was given once
    assert len(taken) == len(set(taken)) == 250
