"""The lines that `marq start` prints: the models, a request to paste, or the cure where there is no model."""

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from archive.store.model_store import ModelStore
from marq.registry.spec import ModelSpec
from marq.registry.tokens import KEY_FILE
from marq.settings import addresses
from marq.settings.fields import Settings

LABEL_WIDTH = 16
MOST_NAMED = 10  # archives of a store
ANY = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - replaced, not listened on
PRINT_KEY = "import json, sys; print(json.load(open(sys.argv[1]))['inference']['key'])"


def line(label: str, text: object) -> str:
    return f"{label:<{LABEL_WIDTH}}{text}"


def served(specs: Iterable[ModelSpec]) -> Iterator[str]:
    """One line for each registered version."""
    for spec in specs:
        fewest, most = spec.min_workers, spec.max_workers
        replicas = "1 replica" if fewest == 1 else f"{fewest} replicas"
        if spec.is_elastic:
            replicas = f"{fewest} to {most} replicas"
        yield line("Model", f"{spec.name} {spec.version} from {spec.url}, {replicas}")


def first_request(settings: Settings, model: str) -> str:
    """A command that a user of this host can paste; the token stays in the key file."""
    where = addresses.parse(settings.inference_address)
    words = ["curl"]
    if where.path:
        words += ["--unix-socket", shlex.quote(where.path)]
    if where.tls:
        words.append("-k")
    if not settings.disable_token_auth:
        key_file = shlex.quote(str(Path.cwd() / KEY_FILE))
        words += ["-H", f'"Authorization: Bearer $(python3 -c "{PRINT_KEY}" {key_file})"']
    port = f":{where.port}"
    host = ANY.get(where.host, f"[{where.host}]" if ":" in where.host else where.host) + port
    scheme = "https" if where.tls else "http"
    address = "http://localhost" if where.path else f"{scheme}://{host}"
    return " ".join((*words, f"{address}/predictions/{model}", "-T FILE"))


def nothing_to_serve(settings: Settings) -> str:
    """What to do where no model is registered."""
    store = settings.model_store
    if store is None:
        return "No models: give --model-store DIR and --models FILE ..., or --models all."
    names = [path.name for path in ModelStore(store, []).all_archives()]
    if not names:
        return f"No models: {store} has no archives. `marq archive --export-path {store}` makes one."
    shown = ", ".join(names[:MOST_NAMED]) + (" ..." if len(names) > MOST_NAMED else "")
    return f"No models: {store} has {shown}. Give --models {names[0]}, or --models all."
