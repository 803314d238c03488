"""What counts as the same requirements."""

import pytest

from workers.node.requirements import fingerprint


@pytest.fixture
def model(tmp_path):
    """A model directory in which every kind of reference to a local file occurs."""
    folder = tmp_path / "model"
    (folder / "wheels").mkdir(parents=True)
    (folder / "lists").mkdir()
    (folder / "project/src").mkdir(parents=True)
    for name in ("a.whl", "wheels/b.whl", "project/src/code.py", "plain", "unnamed.whl"):
        (folder / name).write_text(name)
    (folder / "requirements.txt").write_text(
        "--find-links=./wheels  # beside\n./a.whl[extra]; python_version > '3'\n-rlists/more.txt\n"
        f"--constraint {folder}/limits.txt\nnumpy==2.0 \\\n  --hash=sha256:00\nhttp://host/x.whl\n"
    )
    (folder / "lists/more.txt").write_text("project @ ./project\n-r deepest\n")
    (folder / "lists/deepest").write_text(f"file://{folder}/plain\n")
    (folder / "limits.txt").write_text("numpy<3\n")
    return folder


def of(folder):
    return fingerprint(folder / "requirements.txt", folder)


@pytest.mark.parametrize(
    "name",
    [
        "requirements.txt", "a.whl", "wheels/b.whl", "lists/more.txt", "lists/deepest", "limits.txt", "plain",
        "project/src/code.py",
    ],
)  # fmt: skip
def test_a_change_of_any_file_that_is_read_changes_it(model, name):
    before = of(model)
    with (model / name).open("a") as file:
        file.write("\n# changed\n")
    assert of(model) != before


def test_a_new_file_in_a_folder_that_is_read_changes_it(model):
    before = of(model)
    (model / "wheels/c.whl").write_text("new")
    assert of(model) != before


def test_other_files_do_not_matter(model):
    before = of(model)
    (model / "unnamed.whl").write_text("changed")
    (model / "model.pt").write_text("new")
    assert of(model) == before


def test_it_does_not_depend_on_where_the_files_lie(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.whl").write_text("wheel")
        (tmp_path / name / "requirements.txt").write_text("./a.whl\nnumpy\n")
    assert of(tmp_path / "one") == of(tmp_path / "two")


@pytest.mark.parametrize(
    "text", ["-r requirements.txt\n", "x" * 5000, "\0\n", "-r nowhere.txt\n", "# ./a.whl\n"]
)
def test_strange_lines_do_no_harm(tmp_path, text):
    (tmp_path / "requirements.txt").write_text(text)
    assert len(of(tmp_path)) == 64
