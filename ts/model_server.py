"""The `torchserve` command as a function."""

import os
import sys

from ts._command import TORCHSERVE


def start():
    """Become the `torchserve` command, with this process's arguments; does not return."""
    os.execv(TORCHSERVE[0], [*TORCHSERVE, *sys.argv[1:]])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    start()
