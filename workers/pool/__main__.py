"""One pool process: `python -m workers.pool NAME SIZE QUEUE`, a Celery worker.

The command `celery worker` starts the same worker, but imports the prompt of another command, too: 8 MB.
"""

import sys

from workers.app import app

POOL_CLASS = "workers.pool.celery_pool:ReplicaPool"


def main() -> None:
    name, size, queue = sys.argv[1:]
    worker = app.Worker(
        hostname=name,
        pool_cls=POOL_CLASS,
        concurrency=int(size),
        queues=[queue],
        task_events=True,
        without_gossip=True,
        without_mingle=True,
        loglevel="WARNING",
        no_color=True,
        quiet=True,
    )
    worker.start()
    sys.exit(worker.exitcode)


if __name__ == "__main__":
    main()
