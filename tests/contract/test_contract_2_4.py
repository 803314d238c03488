"""Contract 2.4: list, in pages."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def models(management):
    """tell 1.0 and 2.0, and three more."""
    management.post("/models?url=tell2.mar&initial_workers=0").raise_for_status()
    for name in ("c", "a", "b"):
        management.post(f"/models?url=tell.mar&model_name={name}&initial_workers=0").raise_for_status()


@pytest.mark.parametrize(
    ("query", "names", "token"),
    [
        pytest.param("", ["a", "b", "c", "tell"], None, id="limit is 100 by default, names are sorted"),
        pytest.param("limit=-1", ["a", "b", "c", "tell"], None, id="limit below 0 is 100"),
        pytest.param("limit=101", ["a", "b", "c", "tell"], None, id="limit above 100 is 100"),
        pytest.param("next_page_token=-3", ["a", "b", "c", "tell"], None, id="token below 0 is 0"),
        pytest.param("next_page_token=", ["a", "b", "c", "tell"], None, id="an empty token is 0"),
        pytest.param("limit=4&next_page_token=4", [], None, id="behind the last model is an empty page"),
        pytest.param("limit=3", ["a", "b", "c"], "3", id="a full page has a token"),
        pytest.param("limit=3&next_page_token=3", ["tell"], None, id="the last page has none"),
        pytest.param(
            "limit=2&next_page_token=2", ["c", "tell"], "4", id="a page that ends at the last model has"
        ),
        pytest.param("limit=2&next_page_token=4", [], None, id="and the next one is empty"),
        pytest.param("limit=0", [], "0", id="limit 0 is an empty page with a token"),
    ],
)
def test_page(management, query, names, token):
    body = management.get(f"/models?{query}").json()
    assert [model["modelName"] for model in body["models"]] == names
    assert body.get("nextPageToken") == token
    assert list(body)[-1] == "models"


def test_a_model_is_listed_once_with_the_url_of_its_default_version(management):
    models = management.get("/models").json()["models"]
    assert {"modelName": "tell", "modelUrl": "tell.mar"} in models


def test_what_is_no_number_is_a_400_here(management):
    assert management.get("/models?limit=many").status_code == 400
