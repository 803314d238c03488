"""The meaning of words in Dockerfiles and manifests: images, packages, commands, variables, ports."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from marq.migration.findings import Judgement, Verdict
from marq.settings.fields import Settings
from marq.settings.properties import FILE_VARIABLE
from marq.settings.torchserve_keys import (
    ENVIRONMENT_SWITCH,
    MEANINGLESS,
    TORCHSERVE_PREFIX,
    spelled,
    variable,
)

Placed = tuple[int, Judgement]  # with the line

KEYS = spelled(Settings.model_fields) | set(MEANINGLESS)  # of config.properties
_IMAGE = re.compile(r"(?<![\w-])(?:pytorch|kserve)/torchserve(?:-[\w-]+)?(?![\w/-])", re.IGNORECASE)
_OF_KSERVE = re.compile(r"kfs|kserve", re.IGNORECASE)
_PACKAGE = re.compile(
    r"(?:torchserve|torch-model-archiver|torch-workflow-archiver)(?:-nightly)?", re.IGNORECASE
)
_VERSION = re.compile(r"[\[=<>!~;@].*", re.DOTALL)
_JAVA = re.compile(r"(?:openjdk|default-jre|default-jdk)[\w.-]*")
_SHELLS = frozenset(("sh", "bash"))
_KEEPERS = frozenset(("tail", "sleep", "wait", "marq"))  # commands that keep a container running
_ENDS = frozenset(("&&", "||", ";", "|", "&"))  # of a command in a shell
# The flags of `torchserve`; those without an effect, with the reason.
FLAGS = frozenset(
    (
        *("-h", "--help", "-v", "--version", "--start", "--stop", "--foreground", "--ts-config", "--strict"),
        *(
            "--model-store",
            "--workflow-store",
            "--models",
            "--no-config-snapshots",
            "--ncs",
            "--disable-token-auth",
            "--dt",
        ),
        "--enable-model-api",
    )
)
IGNORED_FLAGS = {
    "--log-config": "marq does not use log4j",
    "--cpp-log-config": "marq does not have a C++ backend",
    "--plugins-path": "marq's plugins are Python packages, not jars",
    "--ppath": "marq's plugins are Python packages, not jars",
}
OF_KSERVE = Judgement(
    Verdict.CHANGE,
    "KServe starts its own image of TorchServe here. Name an image of marq, with the args torchserve, "
    "--start, --model-store=/mnt/models/model-store, --ts-config=/mnt/models/config/config.properties, and "
    "set inference_address=http://0.0.0.0:8080 there: marq serves the protocols v1 and v2 itself.",
)
_COMMANDS = {
    **{
        name: Judgement(Verdict.RUNS, f"the command {name} is the same.")
        for name in ("torchserve", "torch-model-archiver", "torch-workflow-archiver", "ts.llm_launcher")
    },
}
# Variables that are not keys of config.properties
_OTHER_VARIABLES = {
    FILE_VARIABLE: Judgement(Verdict.RUNS, f"{FILE_VARIABLE} names the config.properties."),
    "LOG_LOCATION": Judgement(Verdict.RUNS, "LOG_LOCATION"),
    "METRICS_LOCATION": Judgement(Verdict.RUNS, "METRICS_LOCATION"),
    "JAVA_HOME": Judgement(Verdict.IGNORED, "JAVA_HOME has no effect: marq does not need Java."),
}


def of_image(text: str) -> Judgement | None:
    """The judgement on the name of an image, None if it is not TorchServe's."""
    found = _IMAGE.search(text)
    if not found:
        return None
    if _OF_KSERVE.search(found[0]):
        return OF_KSERVE
    return Judgement(
        Verdict.CHANGE,
        "use an image of marq (deploy/Dockerfile): it has the same user, folders, ports and commands.",
    )


def of_package(word: str) -> Judgement | None:
    """The judgement on a package that pip, conda or apt installs."""
    name = _VERSION.sub("", word.strip())
    if _PACKAGE.fullmatch(name):
        text = f"{name}: install marq instead, which has its commands and modules."
        return Judgement(Verdict.CHANGE, text)
    return Judgement(Verdict.IGNORED, f"{name}: marq does not need Java.") if _JAVA.fullmatch(name) else None


def of_variable(name: str) -> Judgement | None:
    """The judgement on an environment variable, None if it has nothing to do with TorchServe."""
    if name in _OTHER_VARIABLES:
        return _OTHER_VARIABLES[name]
    if not name.startswith(TORCHSERVE_PREFIX):
        return None
    key = next((key for key in KEYS if variable(key) == name), None)
    if key is None:
        return Judgement(Verdict.IGNORED, f"{name} is not a variable of marq.")
    if key in MEANINGLESS:
        return Judgement(Verdict.IGNORED, f"{name} has no effect: {MEANINGLESS[key]}.")
    if key == "ts_open_inference_protocol":
        return Judgement(Verdict.RUNS, name)
    return Judgement(Verdict.RUNS, f"{name}, if config.properties has {ENVIRONMENT_SWITCH}=true, as there.")


def of_command(words: Sequence[tuple[int, str]]) -> Iterator[Placed]:
    """The judgements on a command's words, each with its line: on `torchserve` and its flags."""
    is_torchserve = False
    for line, word in _flat(words):
        name = _name(word)
        if word in _ENDS:
            is_torchserve = False
        elif name in _COMMANDS:
            is_torchserve = name == "torchserve"
            yield line, _COMMANDS[name]
        elif is_torchserve and word.startswith("-") and (judgement := _of_flag(word)):
            yield line, judgement


def of_container_command(words: Sequence[tuple[int, str]]) -> Iterator[Placed]:
    """The same of the command of a container, and whether the container keeps running."""
    problem = _ends_early([word for _, word in _flat(words)])
    for line, judgement in of_command(words):
        if problem and judgement == _COMMANDS["torchserve"]:
            yield line, problem
        else:
            yield line, judgement


def _ends_early(words: Sequence[str]) -> Judgement | None:
    """Why a container with this command would not keep serving.

    marq's entry point adds --foreground where the command is `torchserve` alone.
    """
    commands = _split(words)
    serving = next((each for each in commands if "torchserve" in map(_name, each)), None)
    first = _name(commands[0][0]) if commands else ""
    if serving is None or (len(commands) == 1 and first not in _SHELLS):
        return None
    if first not in ("torchserve", *_SHELLS):
        text = f"the container runs one command, which begins with {first}: write sh -c '...'."
    elif "--foreground" in serving or _name(commands[-1][0]) in _KEEPERS:
        return None
    else:
        text = "the container ends with the last command: add --foreground to torchserve."
    return Judgement(Verdict.CHANGE, text)


def _split(words: Sequence[str]) -> list[list[str]]:
    """The commands of a shell's line."""
    commands: list[list[str]] = [[]]
    for word in words:
        if word in _ENDS:
            commands.append([])
        else:
            commands[-1].append(word)
    return [command for command in commands if command]


def _name(word: str) -> str:
    return PurePath(word).name


def _of_flag(word: str) -> Judgement | None:
    given = word.partition("=")[0]
    known = [*FLAGS, *IGNORED_FLAGS]
    meant = given if given in known else next((flag for flag in known if flag.startswith(given)), None)
    if meant is None:
        return Judgement(Verdict.CHANGE, f"{given}: torchserve does not have this flag.")
    if meant in IGNORED_FLAGS:
        return Judgement(Verdict.IGNORED, f"{meant} has no effect: {IGNORED_FLAGS[meant]}.")
    return None


def _flat(words: Sequence[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """A word may be a command itself: `sh -c "torchserve --start"`, or a list that is one string."""
    for line, word in words:
        parts = shell_words(word) if re.search(r"\s", word.strip()) else [word.strip()]
        yield from ((line, part) for part in parts)


def shell_words(text: str) -> list[str]:
    """The words of a shell command; `;` and the like stand alone."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        return list(lexer)
    except ValueError:  # a quote that does not end
        return text.split()
