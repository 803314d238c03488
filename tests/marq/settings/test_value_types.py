"""The rules of settings; that an error names its place is in test_fields.py."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from marq.settings.fields import Settings


@pytest.mark.parametrize("value", ["{", "[" * 3000, "[]", '"m"', '{"m": 3}', '{"m": {"1.0": 3}}'])
def test_the_models_json_must_have_its_shape(value):
    with pytest.raises(ValidationError, match=r"must be a JSON object \{name: \{version"):
        Settings(model_settings=value)


def test_directories_of_plugins_are_the_same_in_processes_that_run_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    assert Settings(plugins_path="a,/b").plugins_path == f"{Path.cwd()}/a,/b"


def test_a_text_may_take_the_place_of_true_where_torchserve_has_one():
    assert Settings(ts_open_inference_protocol="oip").ts_open_inference_protocol is True
    with pytest.raises(ValidationError, match="ts_open_inference_protocol"):
        Settings(ts_open_inference_protocol="perhaps")
