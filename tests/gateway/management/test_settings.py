"""Each setting of a model appears wherever its facts say so."""

import dataclasses

import pytest
from fastapi import FastAPI

from gateway.management import models
from gateway.management.description import description
from gateway.management.parameters import register_operation, register_parameters
from gateway.routing.routes import Routes
from marq.errors import BadRequest
from marq.registry.spec import SETTINGS, ModelSpec
from marq.settings.fields import Settings

VALUES = {str: "gpu", int: 7, bool: True, list[int]: [7], list[str]: ["finished"]}
SPEC = ModelSpec(**{setting.name: VALUES[setting.type] for setting in SETTINGS})
DESCRIBED = [setting for setting in SETTINGS if setting.describe]
PARAMETERS = [setting for setting in SETTINGS if setting.api]


@pytest.fixture(scope="module")
def paths():
    settings = Settings(redis_url="redis://127.0.0.1:1")
    app = FastAPI()
    app.include_router(models.router(settings, Routes(settings)))
    return app.openapi()["paths"]


def by_name(operation):
    return {parameter["name"]: parameter for parameter in operation["parameters"]}


@pytest.mark.parametrize("setting", DESCRIBED, ids=lambda setting: setting.describe)
def test_describe_shows_the_value(setting):
    assert description(SPEC, [], 0, gpus=1)[setting.describe] == VALUES[setting.type]


@pytest.mark.parametrize("setting", DESCRIBED, ids=lambda setting: setting.describe)
def test_the_document_has_a_schema_for_the_value(setting, paths):
    answer = paths["/models/{model_name}"]["get"]["responses"]["200"]["content"]["application/json"]
    kind = {str: "string", int: "integer", bool: "boolean", list[int]: "array", list[str]: "array"}[
        setting.type
    ]
    assert answer["schema"]["items"]["properties"][setting.describe]["type"] == kind


def test_describe_has_torchserves_keys_before_marqs():
    shown = list(description(SPEC, [], 0, gpus=1))
    order = [setting.describe for setting in DESCRIBED if setting.torchserve]
    assert shown[: len(order)] == order
    own = [setting.describe for setting in DESCRIBED if not setting.torchserve]
    assert shown[len(order) :] == ["workers", "jobQueueStatus", *own]


@pytest.mark.parametrize("setting", PARAMETERS, ids=lambda setting: setting.api)
def test_register_reads_the_parameter_and_documents_it(setting):
    parameter = by_name(register_operation())[setting.api]
    assert parameter["description"] == setting.description
    registration = register_parameters({"url": "m.mar", setting.api: "7"}).registration()
    assert registration.settings == {setting.name: 7}


@pytest.mark.parametrize("setting", PARAMETERS, ids=lambda setting: setting.api)
def test_register_refuses_a_number_below_the_least(setting):
    below = setting.least - 1 if setting.least - 1 != setting.unset else setting.least - 2
    with pytest.raises(BadRequest, match=rf"{setting.api}: must be an integer from {setting.least} to "):
        register_parameters({"url": "m.mar", setting.api: below})


def test_scale_documents_the_settings_that_may_change(paths):
    changeable = {setting.api for setting in SETTINGS if setting.changeable}
    for path in ("/models/{model_name}", "/models/{model_name}/{model_version}"):
        assert changeable <= by_name(paths[path]["put"]).keys()
        assert not ({setting.api for setting in PARAMETERS} - changeable) & by_name(paths[path]["put"]).keys()


def test_a_value_that_the_archive_sets_is_described_even_without_effect():
    spec = dataclasses.replace(SPEC, use_venv=False, sequence_batching=True, continuous_batching=True)
    shown = description(spec, [], 0, gpus=0)
    assert (shown["useVenv"], shown["stateful"], shown["continuousBatching"]) == (False, True, True)
    assert shown["deviceType"] == "cpu"
