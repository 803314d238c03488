"""The lines that `marq start` prints: the models, a request to paste, or the cure for a lack of models."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from archive.store.model_store import ModelStore
from marq.registry.spec import ModelSpec
from marq.registry.token_store import KEY_FILE
from marq.settings import addresses, grpc_addresses
from marq.settings.fields import Settings

LABEL_WIDTH = 16
MOST_NAMED = 10  # archives of a store
ANY = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - replaced, not listened on
PRINT_KEY = "import json, sys; print(json.load(open(sys.argv[1]))['inference']['key'])"


def line(label: str, text: object) -> str:
    return f"{label:<{LABEL_WIDTH}}{text}"


def places(settings: Settings) -> Iterator[str]:
    """The addresses of the server, and its log directory."""
    yield line("Inference API", settings.inference_address)
    yield line("Management API", settings.management_address)
    if settings.metrics_plane:
        yield line("Metrics API", settings.metrics_address)
    for grpc in grpc_addresses.planes(settings):
        yield line(f"{grpc.name.capitalize()} gRPC", grpc.target)
    if settings.celery_bridge:
        yield line("Celery queue", settings.celery_queue)
    yield line("Logs", settings.log_dir.resolve())


def models(settings: Settings, specs: Sequence[ModelSpec], joins: bool) -> Iterator[str]:
    """The registered versions and a first request, or the cure where there is none.

    `joins`: gateways alone, whose models others may load later.
    """
    yield from served(specs)
    if specs:
        yield line("Try", first_request(settings, specs[0].name))
        if not settings.disable_token_auth:
            yield line("", f"marq predict {specs[0].name} FILE  # finds the token")
    elif not joins:
        yield nothing_to_serve(settings)


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
    """The next step where no model is registered."""
    store = settings.model_store
    if store is None:
        return "No models: give --model-store DIR and --models FILE ..., or --models all."
    names = [path.name for path in ModelStore(store, []).all_archives()]
    if not names:
        return f"No models: {store} has no archives. `marq archive --export-path {store}` makes one."
    shown = ", ".join(names[:MOST_NAMED]) + (" ..." if len(names) > MOST_NAMED else "")
    if settings.models:
        return f"No models: none of --models could be loaded. {store} has {shown}."
    return f"No models: {store} has {shown}. Give --models {names[0]}, or --models all."
