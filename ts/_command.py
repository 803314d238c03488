"""The `torchserve` command of this installation."""

import sys

TORCHSERVE = [sys.executable, "-P", "-m", "marq.cli.torchserve"]
