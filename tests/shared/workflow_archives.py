"""Packs workflow archives for tests."""

from pathlib import Path

from archive.packing.workflow import WorkflowSpec, write


def pack_workflow(store: Path, name: str, spec: str, handler: str = "") -> Path:
    """A `.war` in the store, of the text of a specification and of a handler file."""
    sources = store.parent / f"{store.name}-{name}-sources"
    sources.mkdir(parents=True, exist_ok=True)
    store.mkdir(parents=True, exist_ok=True)
    spec_file, handler_file = sources / f"{name}.yaml", sources / f"{name}_handler.py"
    spec_file.write_text(spec)
    handler_file.write_text(handler or "def unused(data, context):\n    return data\n")
    return write(WorkflowSpec(name, str(spec_file), str(handler_file), export_path=store, force=True))
