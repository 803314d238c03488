import pytest

from marq.settings import properties
from marq.settings.properties import Line, SettingsError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "config.properties"


def test_keys_know_their_lines_also_after_continued_ones(path):
    path.write_text("# comment\n\na=1\nb=one\\\n  two\n! another\nc : 3\n")
    assert properties.read(path) == {
        "a": Line("1", f"{path}:3"), "b": Line("onetwo", f"{path}:4"), "c": Line("3", f"{path}:7"),
    }  # fmt: skip


def test_java_escapes_and_blanks_are_understood(path):
    path.write_text("inference_address=http\\://0.0.0.0\\:8080  \n\\u0061 = \\u00e4\n")
    lines = properties.read(path)
    assert lines["inference_address"].value == "http://0.0.0.0:8080"
    assert lines["a"].value == "ä"


def test_of_a_key_that_stands_twice_the_last_line_counts(path):
    path.write_text("a=1\na=2\n")
    assert properties.read(path) == {"a": Line("2", f"{path}:2")}


def test_a_file_may_name_environment_variables(path):
    path.write_text("store=$$ROOT$$/store\naddress=http://$$HOST$$:$$PORT$$\nprice=5$$\n")
    lines = properties.read(path, {"ROOT": "/models", "HOST": "h", "PORT": "9"})
    assert [line.value for line in lines.values()] == ["/models/store", "http://h:9", "5$$"]


def test_a_variable_that_is_not_set_is_named_with_its_line(path):
    path.write_text("\nmodel_store=$$NO_SUCH$$\n")
    with pytest.raises(SettingsError, match=rf"{path}:2: Invalid Environment Variable NO_SUCH"):
        properties.read(path, {})


@pytest.mark.parametrize(
    "content", ["\ufeffa=1\r\nb=ü\r\n".encode(), "a=1\nb=ü\n".encode("latin-1")], ids=["windows", "java"]
)
def test_windows_files_and_those_of_java_are_read(path, content):
    path.write_bytes(content)
    assert properties.read(path) == {"a": Line("1", f"{path}:1"), "b": Line("ü", f"{path}:2")}


@pytest.mark.parametrize("mark", ["'''", '"""'])
def test_text_in_triple_quotes_is_known_as_such(path, mark):
    path.write_text(f"a=1\n{mark}\nSome text here\nb=2\n{mark}\n{mark} on one line {mark}\nc=3\n")
    quoted = {key: line.is_quoted for key, line in properties.read(path).items()}
    assert quoted == {"a": False, mark: True, "Some": True, "b": True, "c": False}


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a=\\u00"])
def test_a_file_that_cannot_be_read_is_named(path, content):
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"--ts-config file cannot be read: .*config\.properties"):
        properties.read(path)


def test_the_variable_wins_over_the_given_file_and_that_over_the_one_in_this_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert properties.discover(None, {}) is None
    for name in ("config.properties", "given", "variable"):
        (tmp_path / name).touch()
    variable = {"TS_CONFIG_FILE": str(tmp_path / "variable")}
    found = [properties.discover(None, {}), properties.discover(tmp_path / "given", {})]
    found.append(properties.discover(tmp_path / "given", variable))
    assert [path.name for path in found] == ["config.properties", "given", "variable"]


def test_a_file_that_is_not_there_is_told_in_torchserves_words(tmp_path):
    with pytest.raises(SettingsError) as caught:
        properties.discover(tmp_path / "no", {})
    assert str(caught.value) == f"--ts-config file not found: {tmp_path / 'no'}"
