"""What a registration asks nodes to install."""

import json
import zipfile

import pytest

from marq.control.registration import Registration, resolve
from marq.errors import InvalidModel
from marq.registry.spec import ModelSpec
from marq.settings.fields import Settings


@pytest.fixture
def register(tmp_path):
    """Resolves an archive with this manifest and model-config.yaml: register({"requirementsFile": ...})."""

    def register(model, config=None, runtime="python", **settings):
        written = {"modelName": "m", "handler": "handler.py", "configFile": "model-config.yaml", **model}
        with zipfile.ZipFile(tmp_path / "m.mar", "w") as archive:
            archive.writestr("handler.py", "")
            archive.writestr("model-config.yaml", json.dumps(config or {}))
            archive.writestr("MAR-INF/MANIFEST.json", json.dumps({"runtime": runtime, "model": written}))
        return resolve(Settings(model_store=tmp_path, **settings), Registration("m.mar"))

    return register


@pytest.mark.parametrize(
    ("model", "config", "enabled", "expected"),
    [
        ({"requirementsFile": "deps.txt"}, {}, True, ("deps.txt", False)),
        ({"requirementsFile": "deps.txt"}, {}, False, ("", False)),
        ({}, {}, True, ("", False)),
        ({"requirementsFile": "deps.txt"}, {"useVenv": True}, True, ("deps.txt", True)),
        ({"requirementsFile": "deps.txt"}, {"useVenv": True}, False, ("", True)),
        ({}, {"useVenv": False}, True, ("", False)),
    ],
)
def test_what_is_installed_depends_on_archive_and_server(register, model, config, enabled, expected):
    spec = register(model, config, install_py_dep_per_model=enabled)
    assert (spec.requirements, spec.use_venv) == expected
    assert spec.has_dependencies == any(expected)
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_other_runtimes_get_no_environment_and_are_told(register, caplog):
    spec = register({}, {"useVenv": True}, runtime="python3")
    assert not spec.use_venv
    assert "useVenv has no effect with the runtime python3" in caplog.text


def test_a_requirements_file_outside_the_archive_is_refused(register):
    with pytest.raises(InvalidModel, match="requirementsFile"):
        register({"requirementsFile": "../../etc/requirements.txt"}, install_py_dep_per_model=True)
