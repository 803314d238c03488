"""The console script `torchserve`; its modules are imported where Ctrl-C is handled."""

import sys
from typing import NoReturn

from marq.cli import check_extras

INTERRUPTED = 130  # the exit code after Ctrl-C


def main() -> NoReturn:
    """Ends the process with TorchServe's exit codes."""
    try:
        check_extras()
        from marq.cli import torchserve_command

        torchserve_command.main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
