"""The tokens of a server that starts, and the key file that it writes into its working directory."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from marq.connections.commands import RedisClient
from marq.host import greeting
from marq.host.server_file import REDIS_VARIABLE
from marq.registry import token_store
from marq.settings.fields import Settings
from marq.settings.properties import SettingsError


def path() -> Path:
    return Path.cwd() / token_store.KEY_FILE


def write(settings: Settings, client: RedisClient, joins: bool) -> Iterator[str]:
    """Creates the tokens, and yields lines for the user. Raises SettingsError.

    Tokens are new at each start, unless other servers run on this Redis.
    """
    kept = token_store.start_tokens(client, settings.token_expiration_min, joins)
    yield from _warning(settings.redis_url)
    try:
        token_store.write_key_file(Path.cwd(), client)
    except OSError as error:
        raise SettingsError(
            f"The tokens cannot be written to {path()}: {error.strerror}. "
            "Start marq in a directory that you can write, or with --disable-token-auth."
        ) from None
    yield greeting.line("Tokens", f"{path()}{', those of the servers that use this Redis' if kept else ''}")


def _warning(redis_url: str) -> Iterator[str]:
    """A line if another server has written the file: its clients would read the tokens of this one."""
    if path().exists() and (others := _other_servers(Path.cwd(), redis_url)):
        yield (
            f"Warning: {path()} has been the file of another server that runs "
            f"(pid {', '.join(map(str, others))}): it has the tokens of this one now. "
            "Start each server in a directory of its own."
        )


def _other_servers(directory: Path, redis_url: str) -> list[int]:
    """The pids of servers in this directory that use another Redis; those of other users are not seen."""
    import psutil  # for a directory that has a key file only

    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.cmdline()[-1:] != ["gateway"] or Path(process.cwd()) != directory.resolve():
                continue
            if process.environ().get(REDIS_VARIABLE) != redis_url:
                found.add(process.ppid())
    return sorted(found)
