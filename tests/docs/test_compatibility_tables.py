"""The tables list every name that the code offers, and every path in the documents exists."""

import argparse
import re
from pathlib import Path

import pytest
from ts_names import NAMES

from archive import model_config
from archive.packing.collect import _DEFAULT_HANDLERS
from archive.packing.containers import FORMATS
from model_archiver.arg_parser import ArgParser as ModelArgParser
from model_archiver.model_packaging_utils import ModelExportUtils
from ts.context import Context, RequestProcessor
from ts.metrics.metric_cache_abstract import MetricCacheAbstract
from ts.torch_handler.base_handler import BaseHandler
from workflow_archiver.arg_parser import ArgParser as WorkflowArgParser

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EXAMPLES = sorted((ROOT / "examples").glob("*/README.md"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks/README.md", *sorted(DOCS.glob("*.md"))]
STATES = {"same", "better", "narrower", "not there"}
TABLES = sorted(DOCS.glob("compatibility*.md"))


def sections(name):
    """The text of each section of a page, by its title."""
    parts = re.split(r"^## (.+)$", (DOCS / name).read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def quoted(text):
    """What stands in backticks."""
    return set(re.findall(r"`([^`]+)`", text))


def words(text):
    """The identifiers in backticks, also inside of longer pieces such as `f(x)`."""
    return {word for piece in quoted(text) for word in re.findall(r"[\w.-]+", piece)}


def table_rows(text):
    """The cells of each row of all tables, without their heads."""
    lines = text.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("|") and not line.startswith("| ---") and not following.startswith("| ---"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


HANDLERS = sections("compatibility-handlers.md")
ARCHIVES = sections("compatibility-archives.md")


@pytest.mark.parametrize("module", NAMES)
def test_each_module_has_a_row_with_its_names(module):
    rows = [cells for cells in table_rows(HANDLERS["Imports"]) if module in quoted(cells[0])]
    assert len(rows) == 1
    assert set(NAMES[module]) - {"*"} <= quoted(rows[0][1])


@pytest.mark.parametrize(
    ("parser", "section"),
    [
        (ModelArgParser.export_model_args_parser(), "torch-model-archiver"),
        (WorkflowArgParser.workflow_archiver_args_parser(), "torch-workflow-archiver"),
    ],
)
def test_each_flag_has_a_row(parser: argparse.ArgumentParser, section):
    flags = {flag for action in parser._actions for flag in action.option_strings}
    assert flags <= quoted(ARCHIVES[section])


def test_each_archive_format_and_function_of_the_archiver_is_named():
    section = ARCHIVES["torch-model-archiver"]
    functions = {name for name in vars(ModelExportUtils) if not name.startswith("_")}
    assert set(FORMATS) | functions <= words(section)


def test_each_key_of_the_model_config_is_named():
    keys = set(model_config._KEYS) | set(model_config._TORCHRUN_KEYS)
    assert keys <= words(ARCHIVES["model-config.yaml"])


def test_each_default_handler_is_named():
    assert set(_DEFAULT_HANDLERS["python"]) <= words(HANDLERS["Built-in handlers"])


def test_each_step_of_the_base_handler_is_named():
    methods = {name for name, value in vars(BaseHandler).items() if callable(value)}
    own = {"_load_model", "_load_serialized", "_optimize", "_answer", "_answer_in_steps"}  # not TorchServe's
    assert (methods | set(vars(BaseHandler()))) - own <= words(HANDLERS["BaseHandler"])


@pytest.mark.parametrize("kind", [Context, RequestProcessor, MetricCacheAbstract])
def test_each_member_of_the_context_is_named(kind):
    members = {name for name in vars(kind) if not name.startswith("_")}
    assert members <= words(HANDLERS["Context and metrics"])


def test_each_property_of_the_context_is_named():
    made = Context("m", "/d", None, 1, None, "0.12.0")
    names = {name for name in vars(made) if not name.startswith("_")} | set(made.system_properties)
    assert names <= words(HANDLERS["Context and metrics"])


def comparisons(page):
    """The rows of a page that compare something with TorchServe: all but figures."""
    return [
        cells
        for title, text in sections(page.name).items()
        for cells in table_rows(text)
        if title != "Memory"
    ]


@pytest.mark.parametrize("page", TABLES, ids=lambda page: page.stem)
def test_every_row_has_one_of_four_words(page):
    assert [cells for cells in comparisons(page) if len(STATES & set(cells)) != 1] == []


@pytest.mark.parametrize("page", TABLES, ids=lambda page: page.stem)
def test_every_row_names_a_test_that_exists(page):
    assert [cells for cells in comparisons(page) if not quoted(cells[-1])] == []
    named = {test for cells in comparisons(page) for test in quoted(cells[-1])}
    assert [test for test in sorted(named) if not is_test(test)] == []


def is_test(name):
    """Whether there is such a file of tests under tests/, and such a test in it: `e2e/test_x.py::test_y`."""
    file, _, test = name.partition("::")
    path = ROOT / "tests" / file
    return path.is_file() and f"def {test or 'test_'}" in path.read_text()


def test_the_pages_can_be_found():
    linked = (DOCS / "compatibility.md").read_text()
    assert "(compatibility-handlers.md" in linked
    assert "(compatibility-archives.md" in linked


def paths(text):
    """The paths of the project in backticks, without those that stand for members of an archive."""
    folders = (
        "archive|archivers|benchmarks|chaos|compose|contract|deploy|docs|e2e|examples|field|gateway|marq|tests|ts"
        "|workers"
    )
    named = {piece for piece in quoted(text) if re.fullmatch(rf"(?:{folders})/[\w./-]*", piece)}
    return named - {
        "archive/data.csv",
        "benchmarks/out/",
        "ts/__init__.py",
        "ts/labels.txt",
        "workers/tools.py",
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_path_that_a_page_names_exists(page):
    named = paths(page.read_text())
    assert [
        path for path in named if not (ROOT / path).exists() and not (ROOT / "tests" / path).exists()
    ] == []


@pytest.mark.parametrize("readme", EXAMPLES, ids=lambda path: path.parent.name)
def test_each_file_in_the_table_of_an_example_exists(readme):
    named = {name for cells in table_rows(readme.read_text()) for name in quoted(cells[0])}
    files = {name for name in named if re.fullmatch(r"[\w.-]+\.(py|yaml|json)|[\w.-]+/", name)}
    assert [name for name in files if not (readme.parent / name).exists()] == []


def test_each_page_of_the_documents_is_linked_in_the_readme_or_from_compatibility():
    linked = (ROOT / "README.md").read_text() + (DOCS / "compatibility.md").read_text()
    assert [
        page.name
        for page in DOCS.glob("*.md")
        if f"{page.name})" not in linked and f"{page.name}#" not in linked
    ] == []
