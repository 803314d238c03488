"""Every setting, key and variable that is known and has no effect says so where it is given."""

import json

import pytest

from marq.errors import MarqError
from marq.registry.spec import SETTINGS
from marq.settings import torchserve_keys, without_effect
from marq.settings.fields import Settings
from marq.settings.loading import resolve

OFF = "access_log=false\ndisable_system_metrics=true\nenable_metrics_api=false\npayload_threshold=0\n"
OTHER = {True: "false", False: "true"}  # values than the default
# lines of a config.properties; the last one has no effect, with the reason
IDLE = [
    ("disable_token_authorization=true\ntoken_expiration_min=5", "tokens are switched off"),
    ("use_env_allowed_urls=true", "enable_envvars_config is off"),
    (f"{OFF}metrics_address=http://h:1", "enable_metrics_api is off"),
    (f"{OFF}system_metrics_cmd=x", "disable_system_metrics is on"),
    (f"{OFF}metric_time_interval=5", "disable_system_metrics is on"),
    (f"{OFF}access_log_on_console=false", "access_log is off"),
    (f"{OFF}payload_dir=/x", "payload_threshold is 0"),
    (f"{OFF}max_payload_bytes=5", "payload_threshold is 0"),
    (f"{OFF}job_payload_dir=/x", "payload_threshold is 0"),
    (f"{OFF}max_job_payload_bytes=5", "payload_threshold is 0"),
    ("cors_allowed_methods=GET", "cors_allowed_origin is empty"),
    ("cors_allowed_headers=x", "cors_allowed_origin is empty"),
    *(
        (f"{key}=x", "no address is https://, and enable_grpc_ssl is off")
        for key in ("keystore", "keystore_pass", "keystore_type", "private_key_file", "certificate_file")
    ),
    ("inference_address=https://h:1\nkeystore_pass=x", "keystore is empty"),
    ("inference_address=https://h:1\nkeystore_type=JKS", "keystore is empty"),
    ("inference_address=https://h:1\nkeystore=/k\nprivate_key_file=/x", "the keystore comes first"),
    ("inference_address=https://h:1\nkeystore=/k\ncertificate_file=/x", "the keystore comes first"),
    ("grpc_client_ca_file=/x", "enable_grpc_ssl is off"),
    ("model_store_poll_s=5", "load_models is not all"),
    ("plugins_path=/jars", without_effect.NO_PLUGINS),
    ("redis_url=redis://r\nredis_max_memory=5", "the Redis is not marq's own"),
    *(
        (f"enable_grpc=false\n{name}={OTHER.get(field.default, 9)}", "enable_grpc is off")
        for name, field in Settings.model_fields.items()
        if "grpc" in name and name != "enable_grpc"
    ),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "reason"), IDLE)
def test_a_setting_without_an_effect_is_named_with_its_place(tmp_path, lines, reason):
    file = tmp_path / "config.properties"
    file.write_text(lines)
    number, last = lines.count("\n") + 1, lines.splitlines()[-1].partition("=")[0]
    found = [line for line in resolve(file, {}, {}).notices if line.startswith(f"{file}:{number}: ")]
    assert found == [f"{file}:{number}: {last} has no effect: {reason}."]


def test_the_table_has_every_setting_that_can_be_without_an_effect():
    named = {lines.splitlines()[-1].partition("=")[0] for lines, _ in IDLE}
    assert {name for rule in without_effect.RULES for name in rule.names} == named


def test_variables_are_named_as_the_user_wrote_them():
    environ = {"MARQ_DISABLE_TOKEN_AUTH": "true", "MARQ_TOKEN_EXPIRATION_MIN": "5"}
    assert resolve(None, {}, environ).notices == [
        "MARQ_TOKEN_EXPIRATION_MIN has no effect: tokens are switched off."
    ]


def test_what_has_an_effect_or_changes_nothing_is_not_named(tmp_path):
    file = tmp_path / "config.properties"
    file.write_text(
        "disable_token_authorization=true\ntoken_expiration_min=60\ncors_allowed_origin=*\n"
        "cors_allowed_methods=GET\ninference_address=https://h:1\nkeystore=/k\nkeystore_pass=x\n"
    )
    resolved = resolve(file, {}, {})
    assert [*resolved.notices, *resolved.without_effect] == []


@pytest.mark.parametrize("key", torchserve_keys.MEANINGLESS)
def test_so_are_torchserves_variables_of_keys_without_an_effect(key):
    variable = f"TS_{key.upper()}"
    expected = [f"{variable} has no effect: {torchserve_keys.MEANINGLESS[key]}."]
    for_handlers = key in ("ipex_enable", "ipex_gpu_enable")
    assert resolve(None, {}, {variable: "1"}).notices == ([] if for_handlers else expected)


@pytest.mark.parametrize("key", sorted(torchserve_keys.FILE_ONLY - set(torchserve_keys.MEANINGLESS)))
def test_so_are_variables_of_keys_that_torchserve_reads_from_the_file_only(key):
    expected = f"TS_{key.upper()} has no effect: write {key} into config.properties."
    assert resolve(None, {}, {f"TS_{key.upper()}": "1"}).notices == [expected]


def test_misspelled_variables_are_named_and_those_of_others_are_not():
    given = ["TS_MODEL_STOR", "MARQ_COLOUR", "TS_NODE_PROJECT", "TS_CONFIG_FILE", "MARQ_TOKEN", "MARQ_NODE"]
    kubernetes = ["MARQ_SERVICE_HOST", "MARQ_PORT_8080_TCP_ADDR", "MARQ_REDIS_PORT", "MARQ_SERVICE_PORT_HTTP"]
    assert resolve(None, {}, dict.fromkeys([*given, *kubernetes], "1")).notices == [
        "MARQ_COLOUR is not a setting. marq config lists the settings.",
        "TS_MODEL_STOR is not a variable of TorchServe. Did you mean TS_MODEL_STORE?",
    ]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("batchsize", 4, 'did you mean "batchSize"?'),
        ("initialWorkers", 4, 'did you mean "minWorkers"?'),
        ("colour", "red", "there is no such key."),
        ("batchSize", "4", "it must be an integer above 0."),
        ("minWorkers", 0, "it must be an integer above 0."),
        *(
            (each.yaml, 1, "write it into model-config.yaml.")
            for each in SETTINGS
            if each.yaml and not each.in_models_json and each.yaml not in ("minWorkers", "maxWorkers")
        ),
    ],
)
def test_a_key_of_the_models_json_without_an_effect_is_named(key, value, reason):
    models = json.dumps({"m": {"1.0": {key: value, "maxBatchDelay": 5, "defaultVersion": True}}})
    resolved = resolve(None, {}, {"MARQ_MODEL_SETTINGS": models})
    assert resolved.notices == [f"MARQ_MODEL_SETTINGS: {key} of m 1.0 has no effect: {reason}"]


def test_more_workers_at_least_than_at_most_are_named():
    def notices(**workers):
        models = json.dumps({"m": {"1.0": workers}})
        return resolve(None, {}, {"MARQ_MODEL_SETTINGS": models}).notices

    reason = "maxWorkers of m 1.0 has no effect: it must be at least minWorkers, which is 7."
    assert notices(minWorkers=7, maxWorkers=3) == [f"MARQ_MODEL_SETTINGS: {reason}"]
    assert notices(minWorkers=7, maxWorkers=7) == notices(minWorkers=7) == notices(maxWorkers=3) == []


@pytest.mark.parametrize("name", ["MARQ_MODEL_SETTINGS", "MARQ_MODEL_SNAPSHOT"])
@pytest.mark.parametrize("value", ["[" * 5_000, '{"a":' * 5_000])
def test_json_without_end_is_an_error_that_names_the_setting(name, value):
    with pytest.raises(MarqError, match=name):
        resolve(None, {}, {name: value})
