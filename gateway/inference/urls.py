"""The URLs that run a model: one table for routing, for counting and for the OpenAPI document."""

from dataclasses import dataclass, field
from urllib.parse import parse_qs

from starlette.types import Scope

from gateway.asgi import JSON_TYPE, Headers, content_type

SEGMENTS = "marq.segments"  # of a scope: its path, split once for each request
BATCH = ":batch"  # ends the URLs that queue many jobs
WORKFLOW = "wfpredict"  # first segment of the URLs that run workflows
MODEL, VERSION = "{model_name}", "{model_version}"
# First segments that `/{model}/predict` does not take for a model's name
RESERVED = frozenset(
    ("models", "predictions", "explanations", "jobs", "v1", "v2", "ping", "token", "workflows")
)


@dataclass(frozen=True)
class Target:
    """A URL, read: the model to run, and how."""

    model: str = ""  # empty: the request names it
    version: str | None = None
    path: str | None = None  # the rest of the path, where handlers get it
    explain: bool | None = None  # None: handlers do not get the header `explain`
    takes_query: bool = False  # whether the query string becomes part of the row
    has_tensors: bool = False  # the open inference protocol: the body is JSON, binary tensors may follow it

    def headers(self, given: Headers) -> Headers:
        """The client's headers with those that the server adds; Triton's clients send no content type."""
        added = [] if self.explain is None else [(b"explain", str(self.explain).encode())]
        if self.has_tensors and not content_type(given):
            added.append(JSON_TYPE)
        return [*given, *added] if added else given


@dataclass(frozen=True)
class Form:
    """One form of URL. `takes_rest`: more segments may follow; handlers get them as the path."""

    pattern: str
    summary: str
    explain: bool | None = None
    gives_path: bool = False
    takes_rest: bool = False
    takes_query: bool = False
    segments: tuple[str, ...] = field(init=False)
    has_tensors: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", tuple(self.pattern.removeprefix("/").split("/")))
        object.__setattr__(self, "has_tensors", self.segments[0] == "v2")

    def match(self, segments: list[str]) -> Target | None:
        """The target of a path of this form, else None."""
        length = len(self.segments)
        if len(segments) != length and not (self.takes_rest and len(segments) > length):
            return None
        model, version = "", None
        for pattern, segment in zip(self.segments, segments, strict=False):
            if pattern == VERSION:
                version = segment
            elif pattern.startswith(MODEL):
                verb = pattern.removeprefix(MODEL)
                if not segment.endswith(verb):
                    return None
                model = segment.removesuffix(verb)
            elif pattern != segment:
                return None
        path = "/".join(segments[length:]) if self.gives_path else None
        return Target(model, version, path, self.explain, self.takes_query, self.has_tensors)


FORMS = (
    Form("/predictions/{model_name}", "Run the default version", gives_path=True),
    Form("/predictions/{model_name}/{model_version}", "Run a version", gives_path=True, takes_rest=True),
    Form("/explanations/{model_name}", "Explain with the default version", True, gives_path=True),
    Form(
        "/explanations/{model_name}/{model_version}", "Explain with a version", True,
        gives_path=True, takes_rest=True,
    ),
    Form("/v1/models/{model_name}:predict", "Run the default version (KServe v1)", False),
    Form("/v1/models/{model_name}:explain", "Explain with the default version (KServe v1)", True),
    Form("/v2/models/{model_name}/infer", "Run the default version (KServe v2)", False),
    Form("/v2/models/{model_name}/explain", "Explain with the default version (KServe v2)", True),
    Form("/v2/models/{model_name}/versions/{model_version}/infer", "Run a version (KServe v2)", False),
    Form(
        "/v2/models/{model_name}/versions/{model_version}/explain", "Explain with a version (KServe v2)", True
    ),
    Form("/invocations", "Run a model (SageMaker)", takes_query=True),
    Form("/models/{model_name}/invoke", "Run the default version", takes_query=True),
    Form("/{model_name}/predict", "Run the default version", takes_query=True),
    Form("/{model_name}/{model_version}/predict", "Run a version", takes_query=True),
)  # fmt: skip


def parse(segments: list[str]) -> Target | None:
    """The target of a path, or None if it runs no model."""
    for form in FORMS:
        if form.segments[0].startswith(MODEL) and segments[:1] and segments[0] in RESERVED:
            continue
        if target := form.match(segments):
            return target
    return None


def runs_something(segments: list[str]) -> bool:
    """Whether a path runs a model or a workflow, and never reaches a route of FastAPI."""
    return parse(segments) is not None or segments[:1] == [WORKFLOW]


def segments_of(scope: Scope) -> list[str]:
    """The segments of a request's path; empty ones do not count."""
    found: list[str] | None = scope.get(SEGMENTS)
    if found is None:
        found = scope[SEGMENTS] = [segment for segment in scope.get("path", "").split("/") if segment]
    return found


def model_of(scope: Scope) -> tuple[str, str | None]:
    """(model, version) that a path beside FORMS names, such as `/models/{model}`; ("", None) if none."""
    match segments_of(scope):
        case "models", model, *rest:
            return model, rest[0] if rest and rest[0] not in ("all", "set-default") else None
        case "jobs", "groups", group if ":" in group and not group.endswith(BATCH):
            return group.partition(":")[0], None
        case "jobs", job, *rest:
            model, is_id, _ = job.partition(":")
            return model, rest[0].removesuffix(BATCH) if rest and not is_id else None
        case ["jobs" | "webhooks"]:
            given = parse_qs(scope.get("query_string", b"").decode("latin-1"))
            return given.get("model", [""])[-1], None
        case "dead-letters" | "predictions" | "explanations" | "wfpredict" | "workflows", model, *_:
            return model, None
        case "v1" | "v2", "models", model, "versions", version, *_:
            return model, version
        case "v1" | "v2", "models", model, *_:
            return model, None
    return "", None
