"""How the `torchserve` command of this installation is started."""

import sys

TORCHSERVE = [sys.executable, "-P", "-m", "marq.cli.torchserve"]
