import pytest

from gateway.inference.urls import FORMS, RESERVED, Target, model_of, parse, segments_of


def target(path: str) -> Target | None:
    return parse(segments_of({"path": path}))


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/predictions/m", Target("m", path="")),
        ("//predictions//m/", Target("m", path="")),
        ("/predictions/m/1.0", Target("m", "1.0", "")),
        ("/predictions/m/1.0/v1/chat", Target("m", "1.0", "v1/chat")),
        ("/explanations/m", Target("m", path="", explain=True)),
        ("/explanations/m/1.0/a", Target("m", "1.0", "a", explain=True)),
        ("/v1/models/m:predict", Target("m", explain=False)),
        ("/v1/models/a:b:explain", Target("a:b", explain=True)),
        ("/v2/models/m/infer", Target("m", explain=False, has_tensors=True)),
        ("/v2/models/m/explain", Target("m", explain=True, has_tensors=True)),
        ("/v2/models/m/versions/1.0/infer", Target("m", "1.0", explain=False, has_tensors=True)),
        ("/v2/models/m/versions/1.0/explain", Target("m", "1.0", explain=True, has_tensors=True)),
        ("/invocations", Target(takes_query=True)),
        ("/models/m/invoke", Target("m", takes_query=True)),
        ("/m/predict", Target("m", takes_query=True)),
        ("/m/1.0/predict", Target("m", "1.0", takes_query=True)),
    ],
)
def test_a_url_names_a_model(path, wanted):
    assert target(path) == wanted


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/ping", "/predictions", "/models", "/models/m", "/v1/models/m", "/v1/models/m:other"),
        *("/v2/models/m/versions/1.0", "/v2/models/m/infer/more", "/invocations/m", "/m/1.0/a/predict"),
        *(f"/{first}/predict" for first in sorted(RESERVED - {"predictions", "explanations"})),
    ],
)
def test_other_urls_run_no_model(path):
    assert target(path) is None


def test_each_form_finds_its_own_pattern():
    for form in FORMS:
        assert form.match(list(form.segments)) is not None


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/jobs/m:batch", ("m", None)),
        ("/jobs/m/1.0:batch", ("m", "1.0")),
        ("/jobs/groups/m:1", ("m", None)),
        ("/jobs/groups/1.0:batch", ("groups", "1.0")),
        ("/jobs/groups/1.0", ("groups", "1.0")),
        ("/jobs/m:1/retry", ("m", None)),
    ],
)
def test_authorizers_learn_the_model_of_a_jobs_url(path, wanted):
    assert model_of({"path": path}) == wanted
