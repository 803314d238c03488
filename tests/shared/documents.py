"""The blocks of a document that a reader would paste, and a shell that runs them as they are.

Three conventions, which a reader may ignore:

- A comment `# -> OUTPUT` after a command, or on a line of its own, is output of the block, in order; `…`
  stands for any text. White space does not count.
- `<!-- not run: REASON -->` before a block: it cannot run here.
- A block that ends with a server in the foreground (`marq start ...`) is for a terminal of its own.
"""

import contextlib
import copy
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from ports import free_port
from sources import PROJECT, PYTHON_FREE

LANGUAGES = frozenset(("sh", "python", "console", "text", "yaml", "properties", "json"))
RUN = frozenset(("sh", "python", "console"))
FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
SHOWN = re.compile(r"# -> (.+)$", re.M)
SERVER = re.compile(r"^(marq (start|node|gateway)|python -m ts\.llm_launcher)\b.*[^&]$")
LIMIT_S = 900.0
README = PROJECT / "README.md"


@dataclass(frozen=True)
class Block:
    """A fenced block; `not_run` is the reason why it cannot be run, or empty."""

    document: Path
    section: str
    line: int
    language: str
    text: str
    not_run: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(PROJECT)}:{self.line}"

    @property
    def shown(self) -> list[str]:
        """The output that the document shows, in pieces."""
        if self.language == "console":
            return [line for line in self.text.splitlines() if not line.startswith("$ ")]
        return SHOWN.findall(self.text)

    @property
    def script(self) -> str:
        """What a shell runs; a server in the foreground goes to the background."""
        if self.language == "python":
            return f"python - <<'END_OF_PYTHON'\n{self.text}END_OF_PYTHON\n"
        if self.language == "console":
            commands = [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]
            return "".join(f"{command} || true\n" for command in commands)
        *before, last = self.text.rstrip().replace("\\\n", " ").splitlines() or [""]
        command = re.sub(r"\s+#.*$", "", last)
        if SERVER.match(command):
            last = f"{command} &"
        return "\n".join([*before, last]) + "\n"

    def starts_a_server(self) -> bool:
        return bool(re.search(r"^(marq start|python -m ts\.llm_launcher)\b", self.text, re.M))


def blocks(document: Path) -> list[Block]:
    text = document.read_text()
    return [
        Block(
            document,
            re.findall(r"^#+ (.+)$", text[: found.start()], re.M)[-1],
            text[: found.start()].count("\n") + 1,
            found["language"],
            found["text"],
            found["reason"] or "",
        )
        for found in FENCE.finditer(text)
    ]


class Terminal:
    """A bash in which blocks run one after the other, on ports and with a state directory of its own."""

    def __init__(self, folder: Path, commands: Path, **variables: str) -> None:
        self.folder = folder
        self._ports = {port: str(free_port()) for port in ("8080", "8081", "8082", "7070", "7071")}
        self.inference = f"http://127.0.0.1:{self._ports['8080']}"
        self.management = f"http://127.0.0.1:{self._ports['8081']}"
        (folder.parent / ".curlrc").write_text("silent\nshow-error\n")  # no progress between the lines
        self._environment = {
            **PYTHON_FREE,
            "PATH": f"{commands}:{os.environ['PATH']}",
            "MARQ_STATE_DIR": str(folder.parent / f"{folder.name}-state"),
            "MARQ_INFERENCE_ADDRESS": self.inference,
            "MARQ_MANAGEMENT_ADDRESS": self.management,
            "MARQ_METRICS_ADDRESS": f"http://127.0.0.1:{self._ports['8082']}",
            "MARQ_GRPC_INFERENCE_PORT": self._ports["7070"],
            "MARQ_GRPC_MANAGEMENT_PORT": self._ports["7071"],
            "CURL_HOME": str(folder.parent),
            "OMP_NUM_THREADS": "1",  # the tests share the cores
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_COMPILE": "no",  # pip reads it the other way round: all of PyTorch is not compiled
            **variables,
        }
        self._opened = 0
        self._open()

    def _open(self) -> None:
        self._log = self.folder.parent / f"{self.folder.name}-{self._opened}.log"
        self._output = self._log.open("ab")
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail"],
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=self._environment,
            start_new_session=True,
        )
        self._number = 0

    def beside(self) -> "Terminal":
        """Another terminal in the same folder, for the same server."""
        self._opened += 1
        other = copy.copy(self)
        other._open()
        return other

    def run(self, block: Block, replaced: Mapping[str, str] = {}) -> None:
        """Runs a block to its end; fails if a command fails, or does not print what the block shows."""
        script = self._here(block.script, replaced)
        output = self.type(script, str(block))
        if block.starts_a_server():
            self.wait_for_the_server()
        rest = "".join(output.split())
        for shown in block.shown:
            wanted = "".join(self._here(shown, replaced).split())
            found = re.search(re.escape(wanted).replace("…", ".*?"), rest)
            assert found, f"{block} shows {shown!r}; printed was:\n{output}"
            rest = rest[found.end() :]

    def type(self, script: str, name: str) -> str:
        """Runs a script in this shell; returns its output. Fails if a command does."""
        self._number += 1
        file, output, done = (
            self._log.with_suffix(f".{self._number}.{end}") for end in ("sh", "out", "done")
        )
        file.write_text(script)
        assert self._shell.stdin
        line = f". '{file}' >'{output}' 2>&1 </dev/null; touch '{done}'\n"
        self._shell.stdin.write(line.encode())
        self._shell.stdin.flush()

        def ended() -> bool:
            assert self._shell.poll() is None, f"{name} failed:\n{script}\n{output.read_text()}"
            return done.exists()

        self._wait(ended, f"{name}:\n{script}", output)
        return output.read_text()

    def adapt(self, file: Path) -> None:
        """Writes this terminal's ports into a copied file that names the usual ones."""
        file.write_text(self._here(file.read_text(), {}))

    def _here(self, text: str, replaced: Mapping[str, str]) -> str:
        """The text with this terminal's ports, and other replacements."""
        for before, after in replaced.items():
            text = text.replace(before, after)
        return re.sub(
            r"\b(127\.0\.0\.1|localhost):(\d{4})\b",
            lambda found: f"{found[1]}:{self._ports.get(found[2], found[2])}",
            text,
        )

    def _wait(self, condition: Callable[[], bool], what: str, output: Path | None = None) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            shown = output.read_text() if output and output.exists() else self._log.read_text()
            assert time.monotonic() < deadline, f"waited {LIMIT_S} s in vain for {what}\n{shown}"
            time.sleep(0.1)

    def wait_for_the_server(self) -> None:
        self._wait(self._answers, "the server")

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.inference}/ping").status_code in (200, 400)
        except httpx.TransportError:
            return False

    def stop_the_server(self, commands: Path) -> None:
        """With the `marq` of a folder."""
        subprocess.run([commands / "marq", "stop"], env=self._environment, capture_output=True, timeout=120)

    def close(self) -> None:
        """Ends the shell, and what it started."""
        assert self._shell.stdin
        self._shell.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGTERM)
        self._shell.wait(60)
        self._output.close()


OpenTerminal = Callable[..., Terminal]


def documents() -> Iterator[Path]:
    """The documents whose blocks are for pasting."""
    yield README
    yield from sorted((PROJECT / "docs").glob("*.md"))
    yield from sorted((PROJECT / "examples").glob("*/README.md"))


def runnable(document: Path) -> list[Block]:
    return [block for block in blocks(document) if block.language in RUN and not block.not_run]


def first_screen() -> list[Block]:
    """README.md's blocks after the installation."""
    return [block for block in runnable(README) if not block.text.startswith(("make", "pip"))]
