import os
import subprocess
from dataclasses import replace

from support import wait_for

from workers.pool import leftovers


def test_the_end_of_a_pool_ends_no_process_of_another_servers_pool_of_the_same_name(make_pool, register):
    ended = make_pool(register())
    others = replace(ended, run_dir=f"{ended.run_dir}-of-another-server")
    own, other = (
        subprocess.Popen(
            ["sleep", "60"], env=os.environ | {leftovers.MARK_VARIABLE: leftovers.new_mark(pool)}
        )
        for pool in (ended, others)
    )
    try:
        leftovers.end_of_pool(ended)
        wait_for(lambda: own.poll() is not None, 10, "the end of its own process")
        assert other.poll() is None
    finally:
        for process in (own, other):
            process.kill()
            process.wait()
