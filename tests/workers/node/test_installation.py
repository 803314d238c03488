"""Installing with the real pip and uv, from wheels that lie beside the requirements."""

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from wheels import make_wheel

from marq.registry.spec import ModelSpec
from workers.node import commands as logged_commands
from workers.node import installation
from workers.node.installation import Dependencies, InstallationFailed

pytestmark = pytest.mark.slow

MAIN = "VERSION = {!r}\ndef main():\n    print('tool', VERSION)\n"
REQUIREMENTS = "--no-index\n./tinytool-{}-py3-none-any.whl\n"


@pytest.fixture
def output(caplog):
    """The lines of the model log."""
    caplog.set_level(logging.INFO, logger="test.dependencies")
    return caplog


@pytest.fixture
def cache(tmp_path):
    return Dependencies(tmp_path / "dependencies", logging.getLogger("test.dependencies"))


@pytest.fixture
def without_uv(monkeypatch):
    folders = [f for f in os.environ["PATH"].split(os.pathsep) if not Path(f, "uv").exists()]
    monkeypatch.setenv("PATH", os.pathsep.join(folders))


@pytest.fixture(params=["pip", "uv"])
def installer(request, monkeypatch, tmp_path):
    """Both ways to install, each with how its output shows that it ran."""
    if request.param == "pip":
        request.getfixturevalue("without_uv")
        return "Successfully installed"
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    return "Installed 1 package"


@pytest.fixture
def make_model(tmp_path):
    """A model directory with one wheel: make_model("a", version="1.0")."""

    def make(name="m", version="1.0", requirements=None):
        folder = tmp_path / "models" / name
        make_wheel(folder, "tinytool", version, MAIN.format(version))
        (folder / "requirements.txt").write_text(requirements or REQUIREMENTS.format(version))
        return folder

    return make


def make_spec(name="m", requirements="requirements.txt", **settings):
    return ModelSpec(name, "1.0", "m.mar", "/m.mar", "h.py", requirements=requirements, **settings)


def make_slow_project(make_model):
    """A model that names a project whose build takes a minute."""
    folder = make_model(requirements="--no-index\n./project\n")
    (folder / "project").mkdir()
    (folder / "project/pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "slow"\nbackend-path = ["."]\n'
    )
    (folder / "project/slow.py").write_text("import time\ntime.sleep(60)\n")
    return folder


def seen_by(installed, code):
    """What a replica with these dependencies prints."""
    start = f"import sys; sys.path[:0] = filter(None, [{installed.directory!r}]); {code}"
    done = subprocess.run([installed.python, "-P", "-c", start], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_wheel_of_the_archive_is_installed(cache, make_model, installer, output):
    installed = cache.install(make_spec(), make_model(), "m-1.0@host")
    assert seen_by(installed, "import tinytool; print(tinytool.VERSION)") == "1.0"
    assert installed.python == sys.executable
    assert installer in output.text
    assert all(line.startswith("[m-1.0@host] ") for line in output.messages)


def test_the_model_directory_stays_as_it_was(cache, make_model, installer):
    folder = make_model()
    before = sorted(folder.rglob("*"))
    cache.install(make_spec(), folder, "m")
    assert sorted(folder.rglob("*")) == before


def test_relative_directories_do_as_well(make_model, installer, tmp_path, monkeypatch):
    make_model("m")
    monkeypatch.chdir(tmp_path)
    cache = Dependencies(Path("dependencies"), logging.getLogger("test.dependencies"))
    installed = cache.install(make_spec(), Path("models/m"), "m")
    assert installed.path.is_relative_to(tmp_path / "dependencies")
    assert seen_by(installed, "import tinytool; print(tinytool.VERSION)") == "1.0"


def test_modules_of_the_model_do_not_get_in_the_way(cache, make_model, installer):
    folder = make_model()
    (folder / "logging.py").write_text("raise RuntimeError('this is the model's')\n")
    installed = cache.install(make_spec(), folder, "m")
    assert seen_by(installed, "import tinytool; print(tinytool.VERSION)") == "1.0"


def test_equal_requirements_are_installed_once(cache, make_model, installer, output):
    first = cache.install(make_spec("a"), make_model("a"), "a")
    ran = output.text.count(installer)
    second = cache.install(make_spec("b"), make_model("b"), "b")
    assert (second, ran, output.text.count(installer)) == (first, 1, 1)
    assert "[b] dependencies are already installed" in output.text


@pytest.mark.usefixtures("without_uv")
def test_other_requirements_have_a_place_of_their_own(cache, make_model):
    old = cache.install(make_spec("a"), make_model("a", "1.0"), "a")
    new = cache.install(make_spec("b"), make_model("b", "2.0"), "b")
    assert seen_by(old, "import tinytool; print(tinytool.VERSION)") == "1.0"
    assert seen_by(new, "import tinytool; print(tinytool.VERSION)") == "2.0"


@pytest.mark.usefixtures("without_uv")
def test_a_wheel_with_another_content_is_installed_anew(cache, make_model, tmp_path):
    folder = make_model()
    old = cache.install(make_spec(), folder, "m")
    make_wheel(folder, "tinytool", "1.0", MAIN.format("rebuilt"))
    new = cache.install(make_spec(), folder, "m")
    assert seen_by(old, "import tinytool; print(tinytool.VERSION)") == "1.0"
    assert seen_by(new, "import tinytool; print(tinytool.VERSION)") == "rebuilt"


@pytest.mark.usefixtures("without_uv")
def test_two_that_install_the_same_at_the_same_time_do_it_once(cache, make_model, output):
    threads = [
        threading.Thread(target=cache.install, args=(make_spec(name), make_model(name), name))
        for name in ("a", "b", "c")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert output.text.count("Successfully installed") == 1
    assert output.text.count("are already installed") == 2


def test_what_cannot_be_installed_says_why_and_leaves_nothing(cache, make_model, installer, tmp_path):
    folder = make_model(requirements="--no-index\nthere-is-no-such-package==4.2\n")
    with pytest.raises(InstallationFailed) as caught:
        cache.install(make_spec("wrong"), folder, "m")
    title, _, reason = str(caught.value).partition("\n")
    assert title == "Custom pip package installation failed for model wrong"
    assert "there-is-no-such-package" in reason
    assert [path.name for path in (tmp_path / "dependencies").iterdir()] == ["locks"]


def test_a_failed_installation_can_be_tried_again(cache, make_model, installer):
    folder = make_model(requirements="--no-index\n./missing-1.0-py3-none-any.whl\n")
    with pytest.raises(InstallationFailed, match="missing"):
        cache.install(make_spec(), folder, "m")
    make_wheel(folder, "missing", "1.0", "VERSION = 'found'\n")
    installed = cache.install(make_spec(), folder, "m")
    assert seen_by(installed, "import missing; print(missing.VERSION)") == "found"


def test_a_requirements_file_that_is_not_there_is_named(cache, make_model):
    with pytest.raises(InstallationFailed, match=r"names 'deps\.txt', which is not in the archive"):
        cache.install(make_spec(requirements="deps.txt"), make_model(), "m")


def test_an_interpreter_without_uv_and_pip_is_told(cache, make_model, without_uv, monkeypatch, tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'No module named pip'; exit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(InstallationFailed, match="No module named pip"):
        cache.install(make_spec(), make_model(), "m")


@pytest.mark.usefixtures("without_uv")
def test_passwords_in_urls_are_masked(cache, make_model, output, tmp_path):
    folder = make_model(
        requirements="--index-url http://user:secret-word@127.0.0.1:9/simple\n--retries 0\nnothing-here\n"
    )
    with pytest.raises(InstallationFailed) as caught:
        cache.install(make_spec(), folder, "m")
    assert "secret-word" not in str(caught.value) + output.text
    folder = make_model(
        requirements="--no-index\n--find-links http://user:secret-word@127.0.0.1:9/\n"
        "./tinytool-1.0-py3-none-any.whl\n"
    )
    installed = cache.install(make_spec(), folder, "m")
    assert "http://****@127.0.0.1:9/" in (installed.path / installation.MARKER).read_text()
    assert "secret-word" not in output.text


@pytest.mark.usefixtures("without_uv")
def test_an_installation_that_hangs_is_ended(cache, make_model, monkeypatch, output):
    monkeypatch.setattr(installation, "INSTALL_S", 1.0)
    folder = make_slow_project(make_model)
    with pytest.raises(InstallationFailed, match="took longer than 1 s"):
        cache.install(make_spec(), folder, "m")


@pytest.mark.usefixtures("without_uv")
def test_stopping_ends_an_installation(cache, make_model, output):
    folder = make_slow_project(make_model)
    failures = []

    def install():
        try:
            cache.install(make_spec(), folder, "m")
        except InstallationFailed as error:
            failures.append(str(error))

    thread = threading.Thread(target=install)
    thread.start()
    while "Processing" not in output.text:
        thread.join(0.05)
    cache.stop()
    thread.join(60)
    assert not thread.is_alive()
    assert failures
    with pytest.raises(InstallationFailed, match="stopping"):
        cache.install(make_spec(), folder, "m")


def test_very_long_output_does_not_block(tmp_path, output):
    commands = logged_commands.LoggedCommands(logging.getLogger("test.dependencies"))
    code = "for n in range(50_000): print('line', n)"
    commands.run([sys.executable, "-c", code], tmp_path, "m", 30)
    assert output.messages[-1] == "[m] line 49999"
