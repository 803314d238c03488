import pytest

from archive.errors import PackagingError, SourceMissing
from archive.packing.default_handler import handler_of


@pytest.mark.parametrize(
    "code",
    [
        "def handle(data, context): return data",
        "handle = print",
        "handle: object = handler_factory(init)",
        "handler = handler_factory(init_function=init, resnet_layers=18)",
        "import base_handler\nserve: object = base_handler.handler_factory(init)",
        "from mine import answer as handle",
        "class M:\n    def handle(self, data, context): pass",
        "class M(BaseHandler): pass",
        "import ts\nclass M(ts.torch_handler.image_classifier.ImageClassifier): pass",
    ],
)
def test_a_model_file_with_a_handler_is_the_handler(tmp_path, code):
    path = tmp_path / "model.py"
    path.write_text(code)
    assert handler_of(str(path)) == str(path)


@pytest.mark.parametrize(
    "code",
    [
        "",
        "class Net(torch.nn.Module):\n    def forward(self, x): return x",
        "class Net(make()): pass",
        "class DigitClassifier(torch.nn.Module): pass",
        "handle: object",
        "handler = factory(init)",
        "from mine import handle as answer",
        "def main():\n    def handle(): pass",
        "raise SystemExit('is not run')",
    ],
)
def test_another_one_has_the_default_handler(tmp_path, code):
    path = tmp_path / "model.py"
    path.write_text(code)
    assert handler_of(str(path)) == "base_handler"


def test_what_is_no_python_file_is_told(tmp_path):
    (tmp_path / "bad.py").write_text("def (:")
    with pytest.raises(PackagingError, match=r"bad\.py is not Python: invalid syntax"):
        handler_of(str(tmp_path / "bad.py"))
    for missing in (tmp_path / "nope.py", tmp_path):
        with pytest.raises(SourceMissing, match="File does not exist"):
            handler_of(str(missing))
