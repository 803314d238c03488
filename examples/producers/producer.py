"""Queues a file for a model, and prints the answer: python producer.py REDIS_URL MODEL FILE [TYPE]."""

import sys
import uuid
from pathlib import Path

import redis

LONGEST_MS = 60_000


def main() -> int:
    url, model, file, *kind = sys.argv[1:]
    connection = redis.Redis.from_url(url, socket_timeout=None)  # XREAD waits longer than redis-py's default
    answers = f"answers:{uuid.uuid4()}"
    request = {"type": kind[0] if kind else "", "reply": answers, "body": Path(file).read_bytes()}
    connection.xadd(f"marq:{{{model}}}:normal:1.0", request)
    found = connection.xread({answers: "0"}, block=LONGEST_MS)
    if not found:
        print("No answer.", file=sys.stderr)
        return 1
    [[_, [(_, reply), *_]]] = found
    connection.delete(answers)
    sys.stdout.buffer.write(reply[b"body"])
    return 0 if reply[b"status"] == b"200" else 1


if __name__ == "__main__":
    sys.exit(main())
