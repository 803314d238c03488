"""Requests that schemathesis makes of the OpenAPI documents: every answer must be a documented one."""

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

EXAMPLES = 10  # of each operation
CHECKS = [content_type_conformance, response_schema_conformance]
MOST_WORKERS = 2  # that a request may ask for


def try_operations(address):
    """Tries each operation of a document with made-up requests, for known and unknown models."""
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    failures = []
    for result in schema.get_all_operations():
        try:
            _try(result.ok())
        except Exception as error:
            failures.append(f"{result.ok().label}: {error}")
    assert not failures, "\n\n".join(failures)


def _try(operation):
    modes = [GenerationMode.POSITIVE]
    if any(parameter["in"] == "query" for parameter in operation.definition.raw.get("parameters", ())):
        modes.append(GenerationMode.NEGATIVE)
    cases = st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes])
    documented = {int(status) for status in operation.definition.raw["responses"] if status.isdigit()}

    @seed(1)
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=cases, known=st.booleans())
    def check(case, known):
        _steer(case, known)
        response = case.call(timeout=60)
        assert response.status_code in documented, (
            f"{operation.label}: {response.status_code} {response.text}"
        )
        case.validate_response(response, checks=CHECKS)

    check()


def _steer(case, known):
    """Names what there is, and keeps requests from starting replicas by the thousand."""
    if known and case.method != "DELETE":
        for name, value in {"model_name": "tell", "model": "tell", "model_version": "1.0"}.items():
            if name in case.path_parameters:
                case.path_parameters[name] = value
    if known and case.path == "/models" and case.method == "POST":
        case.query.update(url="tell.mar", initial_workers=0)
    for name in ("min_worker", "max_worker", "initial_workers"):
        if str((case.query or {}).get(name, "")).lstrip("+-").isdigit():
            case.query[name] = min(int(case.query[name]), MOST_WORKERS)


@pytest.mark.slow
def test_every_answer_of_the_inference_address_is_documented(server):
    try_operations(server.inference)


@pytest.mark.slow
def test_every_answer_of_the_management_address_is_documented(server):
    try_operations(server.management)


@pytest.mark.parametrize("plane", ["inference", "management"])
def test_documents_are_openapi_3_and_name_each_operation_once(server, plane):
    document = httpx.get(f"{getattr(server, plane)}/openapi.json").json()
    assert document["openapi"].startswith("3.")
    names = [each["operationId"] for item in document["paths"].values() for each in item.values()]
    assert len(names) == len(set(names))
    assert httpx.get(f"{getattr(server, plane)}/docs").headers["content-type"].startswith("text/html")
