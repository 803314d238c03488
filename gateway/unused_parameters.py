"""Parameters that a request gives and that have no effect: the answer and the log name them.

A request is refused where it would remove or resize something else than its client meant.
"""

import logging
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from itertools import islice

from fastapi import Request, Response

from gateway.asgi import OWN_ROUTES
from marq.errors import BadRequest
from marq.jobs.options import JobOptions
from marq.settings.torchserve_keys import meant

GIVEN = "marq.given"  # key of a scope whose parameters are not in the query string
MOST, LONGEST = 10, 50  # parameters that are named, and characters of a name
LONGEST_WARNING = 500  # characters
SIZES = ("min_worker", "max_worker", "max_attempts")  # without one of these a request resizes to one replica
DECIDING = ("min_worker", "max_worker", "model_version")
# Parameters of TorchServe's management API without an effect, with the reason.
WITHOUT_EFFECT = {
    "number_gpu": "deviceIds in model-config.yaml chooses the GPUs of a model",
    "synchronous": "the answer always waits until it is done",
}
JOB_OPTIONS = tuple(field.name for field in fields(JobOptions))  # of requests that queue jobs
_ODD = re.compile(r"[^A-Za-z0-9_.-]")
_UNQUOTABLE = re.compile(r'[^ -~]|["\\]')
_ADDRESSES = ("/ping", "/api-description")  # probes may add any parameter

log = logging.getLogger(__name__)


def add_warnings(request: Request, response: Response) -> None:
    """Adds a header `Warning` for each parameter without an effect, and logs it."""
    given = request.scope.get(GIVEN) or request.query_params
    known = _known(request) if given else None
    if known is None:
        return
    queues = request.method in ("POST", "PUT") and request.scope["path"].startswith("/jobs/")
    for sentence in islice(sentences(given, known, JOB_OPTIONS if queues else ()), MOST):
        log.warning("%s %s: %s", request.method, ascii(request.scope["path"])[1:-1], sentence)
        add_warning(response, sentence)


def add_warning(response: Response, sentence: str) -> None:
    """Adds one header `Warning`; characters that cannot stand there are replaced."""
    shown = _UNQUOTABLE.sub("?", sentence[:LONGEST_WARNING])
    response.headers.append("Warning", f'299 marq "{shown}"')


async def refuse_mistaken(request: Request) -> None:
    """For routes that remove or resize. Raises BadRequest where a parameter without an effect may have been
    meant to say what or how much."""
    given = request.query_params
    known = _known(request) if given else None
    if known is None:
        return
    unknown = (name for name in given if name not in known and name not in WITHOUT_EFFECT)
    for name in islice(unknown, MOST):
        if _is_dangerous(name, given, known):
            status = 422 if request.scope["path"].startswith(OWN_ROUTES) else None
            raise BadRequest(f"Parameter {_sentence(name, known)}", status)


def refuse_repeated(request: Request) -> None:
    """Raises BadRequest for a parameter that is given twice, of which only one would have an effect."""
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name in seen:
            raise BadRequest(f"Parameter {_shown(name)} is given twice; it has one value.", 422)
        seen.add(name)


def sentences(
    given: Mapping[str, object], known: Collection[str], headers: Collection[str] = ()
) -> Iterator[str]:
    """The warnings for the given parameters. `headers`: what the request takes as headers `X-Marq-…`."""
    waits = str(given.get("synchronous", "")).lower() == "true"
    if {"timeout", "synchronous"} <= set(known) and "timeout" in given and not waits:
        yield "timeout has no effect without synchronous=true."
    yield from (_sentence(name, known, headers) for name in given if name not in known)


def _is_dangerous(name: str, given: Collection[str], known: Collection[str]) -> bool:
    if "min_worker" not in known:
        return True  # the route removes something
    like = _meant(name, known)
    return not any(size in given for size in SIZES) or (like in DECIDING and like not in given)


def _sentence(name: str, known: Collection[str], headers: Collection[str] = ()) -> str:
    shown = _shown(name)
    if name in WITHOUT_EFFECT:
        return f"{shown} has no effect: {WITHOUT_EFFECT[name]}."
    if like := _meant(name, known):
        return f"{shown} has no effect: did you mean {like}?"
    if headers and (option := _meant(name, headers)):
        header = "-".join(part.capitalize() for part in ("x", "marq", *option.split("_")))
        return f"{shown} has no effect here: send the header {header}."
    names = ", ".join(sorted(known)) or "none"
    return f"{shown} has no effect here. The parameters of this request: {names}."


def _shown(name: str) -> str:
    return _ODD.sub("?", name[:LONGEST])


def _meant(name: str, known: Collection[str]) -> str | None:
    return meant(name[:LONGEST].lower(), known)


def _known(request: Request) -> set[str] | None:
    """The query parameters of the request's route; None if it has none that are documented."""
    path = getattr(request.scope.get("route"), "path", "")
    operations = request.app.openapi()["paths"].get(path, {})
    method = request.method.lower()
    operation = operations.get("post" if method == "put" and method not in operations else method)
    if operation is None or path in _ADDRESSES:
        return None
    return {each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"}
