"""Each setting of a model is declared once, with all that marq knows about it."""

import dataclasses
from typing import Annotated

import pytest

from archive import model_config
from marq.registry.setting import Setting, settings_of
from marq.registry.spec import SETTINGS, ModelSpec

SPEC = ModelSpec("m", "1.0", "m.mar", "/m.mar", "h.py")
OTHERS = {str: "other", int: 7, bool: True, list[int]: [7], list[str]: ["other"]}
KEPT_ON_JOIN = {"min_workers", "max_workers", "generation", "started_by", "config_notices"}
NO_REPLICA_READS = {
    "job_queue_size", "max_attempts", "loaded_at_startup", "sequence_drain_s", "workflow",
    "target_queue_ms", "scale_down_delay_s", "idle_timeout_s", "replicas_per_device",
    "webhook_url", "caller_tag", "caller_weights", "caller_quota",
}  # fmt: skip

each_setting = pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)


def changed(setting):
    return dataclasses.replace(SPEC, **{setting.name: OTHERS[setting.type]})


def test_every_field_is_a_setting():
    assert [setting.name for setting in SETTINGS] == [field.name for field in dataclasses.fields(ModelSpec)]


@pytest.mark.parametrize("hint", [int, Annotated[int, "a comment"]])
def test_a_field_without_facts_is_refused(hint):
    cls = dataclasses.make_dataclass("Spec", [("size", hint, 0)])
    with pytest.raises(TypeError, match=r"Spec\.size must be Annotated"):
        settings_of(cls)


def test_a_setting_must_say_whether_it_replaces_replicas():
    with pytest.raises(TypeError, match="replaces_replicas"):
        Setting("Maximum batch size.")


@each_setting
def test_a_description_is_one_sentence(setting):
    assert setting.description[0].isupper()
    assert setting.description.endswith(".")
    assert setting.description.count(". ") == 0


@each_setting
def test_only_integers_are_parameters_of_the_api(setting):
    assert not setting.api or setting.type is int


@each_setting
def test_a_change_of_a_registered_model_keeps_its_replicas(setting):
    if setting.changeable:
        assert setting.api
        assert not setting.replaces_replicas


@each_setting
def test_defaults_are_within_the_bounds(setting):
    if setting.api:
        assert setting.least <= getattr(SPEC, setting.name) <= (setting.most or 2**31 - 1)


@each_setting
def test_what_a_change_replaces(setting):
    expected = setting.name not in KEPT_ON_JOIN | NO_REPLICA_READS
    assert changed(setting).needs_new_replicas(SPEC) is expected
    assert not SPEC.needs_new_replicas(SPEC)


@each_setting
def test_which_changes_count_when_a_server_joins(setting):
    assert changed(setting).is_configured_like(SPEC) is (setting.name in KEPT_ON_JOIN)


def test_model_config_has_a_rule_for_each_key_and_no_other():
    rules = {key: rule.field for key, rule in model_config._KEYS.items()}
    del rules["torchrun"]  # it sets parallelLevel
    assert rules == {setting.yaml: setting.name for setting in SETTINGS if setting.yaml}


def test_a_spec_survives_json_and_ignores_unknown_keys():
    spec = dataclasses.replace(SPEC, device_ids=[1, 0], use_venv=True, continuous_batching=True)
    assert ModelSpec.from_json(spec.to_json()) == spec
    assert ModelSpec.from_json(spec.to_json()[:-1] + ', "later": 1}') == spec
