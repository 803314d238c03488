"""What marq imports is required, what it requires is imported, and private names have bounded versions."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PACKAGES = (
    *(
        "archive",
        "base_handler",
        "bridge",
        "gateway",
        "marq",
        "model_archiver",
        "ts",
        "workers",
        "workflow_archiver",
    ),
)
PROJECT_TABLE = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
REQUIRED = {
    re.split(r"[\[<>=]", requirement)[0]: requirement
    for requirement in [*PROJECT_TABLE["dependencies"], *PROJECT_TABLE["optional-dependencies"]["gateway"]]
}
MODULES = {  # of packages that are not called like what they are imported as
    "googleapis-common-protos": "google", "grpcio": "grpc", "grpcio-health-checking": "grpc_health",
    "grpcio-reflection": "grpc_reflection", "nvidia-ml-py": "pynvml",
    "prometheus-client": "prometheus_client", "protobuf": "google",
    "python-multipart": "python_multipart", "PyYAML": "yaml",
}  # fmt: skip
COME_WITH = {  # imported, and required by a package that is required here
    "anyio": "fastapi", "httptools": "uvicorn", "kombu": "celery", "pydantic_core": "pydantic",
    "starlette": "fastapi", "uvloop": "uvicorn",
}  # fmt: skip
# Imported where it is needed only, with a message that names it: extras, and what handlers bring along
OPTIONAL = frozenset(
    (
        *("torch", "botocore", "fsspec", "numpy", "onnxruntime", "huggingface_hub", "deepspeed"),
        *("torch_xla", "nvidia"),
        *("intel_extension_for_pytorch", "PIL", "pandas", "captum", "torchvision", "transformers", "vllm"),
        *("tensorrt_llm", "openai", "pippy", "base", "pip"),
    )
)
PRIVATE = re.findall(r"^\| ([\w-]+) \| `", (PROJECT / "docs/dependencies.md").read_text(), re.M)


def imported_modules() -> set[str]:
    """The modules of others that the product imports."""
    found: set[str] = set()
    for file in (file for package in PACKAGES for file in (PROJECT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                found.add(node.module)
    own = {*sys.stdlib_module_names, *PACKAGES, "_typeshed"}  # the last exists for type checkers only
    return {module for module in found if module.partition(".")[0] not in own}


def imported() -> set[str]:
    """The packages of others that the product imports."""
    return {module.partition(".")[0] for module in imported_modules()}


def test_every_package_that_is_required_is_imported():
    assert {MODULES.get(package, package) for package in REQUIRED} - imported() == set()


def test_every_package_that_is_imported_is_required():
    required = {MODULES.get(package, package) for package in REQUIRED}
    assert imported() - required - COME_WITH.keys() - OPTIONAL == set()
    assert set(COME_WITH.values()) <= required


@pytest.mark.parametrize("package", PRIVATE)
def test_a_package_whose_private_names_are_used_has_an_upper_bound(package):
    assert "<" in REQUIRED[package]


def test_every_private_module_that_is_imported_is_listed():
    listed = (PROJECT / "docs/dependencies.md").read_text()
    private = {module for module in imported_modules() if re.search(r"\._", module)}
    assert private and all(module in listed for module in private)
