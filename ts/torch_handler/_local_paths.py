"""Paths in model-config.yaml: relative ones are looked for in the model directory first."""

from pathlib import Path


def find(model_dir, path):
    """The whole path of a file in the model directory; any other path, or a name on the hub, as it is."""
    inside = Path(model_dir) / str(path)
    return str(inside) if inside.exists() else path


def read_text(model_dir, text):
    """The text of the file, if `text` names one, else `text` itself."""
    if not text or "\n" in text or "{" in text:
        return text
    path = Path(model_dir) / text
    return path.read_text(encoding="utf-8") if path.is_file() else text
