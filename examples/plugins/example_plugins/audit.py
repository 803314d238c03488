"""An audit log: a line of JSON for each finished request in the file `EXAMPLE_AUDIT_FILE`."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from marq.plugins.protocols import Finished


class Audit:
    """Each gateway appends to the same file, whole lines in one write."""

    protocol = 1

    def __init__(self) -> None:
        self._path = Path(os.environ.get("EXAMPLE_AUDIT_FILE", "audit.jsonl"))

    def observe(self, finished: Sequence[Finished]) -> None:
        lines = "".join(json.dumps(asdict(request)) + "\n" for request in finished)
        with self._path.open("a") as file:
            file.write(lines)
