"""What a gateway process imports before it is known to be needed."""

import subprocess
import sys

HEAVY = {"grpc", "httpcore", "httpx", "torch", "celery"}


def test_a_gateway_does_not_import_what_only_some_servers_need() -> None:
    code = f"import sys, gateway.__main__; print(sorted({HEAVY!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
