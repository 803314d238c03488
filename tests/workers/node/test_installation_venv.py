"""Virtual environments for single models, made with the real venv and pip."""

import logging
import subprocess
import sys

import pytest
from wheels import make_wheel

from marq.registry.spec import ModelSpec
from workers.node import installation
from workers.node.installation import Dependencies, InstallationFailed

pytestmark = pytest.mark.slow

SOURCE = "VERSION = {!r}\ndef main():\n    print('tool', VERSION)\n"


@pytest.fixture
def output(caplog):
    caplog.set_level(logging.INFO, logger="test.dependencies")
    return caplog


@pytest.fixture
def cache(tmp_path):
    return Dependencies(tmp_path / "dependencies", logging.getLogger("test.dependencies"))


@pytest.fixture
def model_dir(tmp_path):
    folder = tmp_path / "model"
    make_wheel(folder, "tinytool", "1.0", SOURCE.format("1.0"))
    (folder / "requirements.txt").write_text("--no-index\n./tinytool-1.0-py3-none-any.whl\n")
    return folder


def make_spec(requirements="requirements.txt"):
    return ModelSpec("m", "1.0", "m.mar", "/m.mar", "h.py", requirements=requirements, use_venv=True)


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_replica_gets_an_interpreter_of_its_own(cache, model_dir):
    installed = cache.install(make_spec(), model_dir, "m")
    assert installed.directory == ""
    code = "import sys, tinytool; print(sys.prefix, tinytool.VERSION)"
    assert run(installed.python, "-P", "-c", code) == f"{installed.path}/venv 1.0"


def test_the_server_s_own_packages_are_there(cache, model_dir):
    installed = cache.install(make_spec(requirements=""), model_dir, "m")
    found = run(
        installed.python, "-P", "-c", "import marq, ts, redis, workers.replica.loop; print(marq.__file__)"
    )
    assert found == run(sys.executable, "-P", "-c", "import marq; print(marq.__file__)")


def test_a_package_of_the_server_is_hidden_by_the_model_s_version(cache, model_dir):
    make_wheel(model_dir, "sortedcontainers", "99.0", "VERSION = 'of the model'\n")
    (model_dir / "requirements.txt").write_text("--no-index\n./sortedcontainers-99.0-py3-none-any.whl\n")
    installed = cache.install(make_spec(), model_dir, "m")
    code = "import sortedcontainers as s; print(s.VERSION)"
    assert run(installed.python, "-P", "-c", code) == "of the model"


def test_what_the_server_has_is_not_installed_again(cache, model_dir, output):
    make_wheel(model_dir, "needy", "1.0", "", requires=("redis>=5",))
    (model_dir / "requirements.txt").write_text("--no-index\n./needy-1.0-py3-none-any.whl\n")
    installed = cache.install(make_spec(), model_dir, "m")
    assert "Requirement already satisfied: redis" in output.text
    assert list(installed.path.rglob("redis")) == []


def test_modules_of_the_model_do_not_get_in_the_way(cache, model_dir):
    (model_dir / "logging.py").write_text("raise RuntimeError('this is the model's')\n")
    installed = cache.install(make_spec(), model_dir, "m")
    assert run(installed.python, "-P", "-c", "import tinytool; print(tinytool.VERSION)") == "1.0"


def test_scripts_work_where_the_environment_ended_up(cache, model_dir):
    installed = cache.install(make_spec(), model_dir, "m")
    assert run(f"{installed.path}/venv/bin/tinytool-main") == "tool 1.0"
    assert ".install-" not in (installed.path / "venv/pyvenv.cfg").read_text()


def test_an_environment_is_not_made_again_but_others_do_not_share_it(cache, model_dir, output):
    first = cache.install(make_spec(), model_dir, "m")
    assert cache.install(make_spec(), model_dir, "m") == first
    assert output.text.count("Successfully installed") == 1
    bare = cache.install(make_spec(requirements=""), model_dir, "m")
    assert bare.path != first.path
    assert list(bare.path.rglob("tinytool.py")) == []


def test_without_pip_in_the_server_s_environment_the_venv_brings_its_own(cache, model_dir, monkeypatch):
    monkeypatch.setattr(installation.importlib.util, "find_spec", lambda name: None)
    installed = cache.install(make_spec(requirements=""), model_dir, "m")
    assert (installed.path / "venv/bin/pip").is_file()


def test_an_environment_that_cannot_be_made_is_told_as_torchserve_does(
    cache, model_dir, monkeypatch, tmp_path
):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'ensurepip is not available'; exit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(InstallationFailed) as caught:
        cache.install(make_spec(), model_dir, "m")
    assert str(caught.value) == "Virtual environment creation failed for model m\nensurepip is not available"


def test_packages_that_do_not_fit_into_it_are_told_as_pip_s_failure(cache, model_dir):
    (model_dir / "requirements.txt").write_text("--no-index\nthere-is-no-such-package\n")
    with pytest.raises(InstallationFailed, match=r"^Custom pip package installation failed for model m\n"):
        cache.install(make_spec(), model_dir, "m")
