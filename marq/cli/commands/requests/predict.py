"""`marq predict` and `marq explain`."""

from pathlib import Path

from marq.cli import http, options
from marq.cli.output import print_body


def predict(
    model: options.ModelName,
    file: options.Body,
    version: options.ModelVersion = None,
    content_type: options.ContentType = None,
    url: options.Url = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Send one request and print the answer."""
    _send(http.connect(url, token, state_dir), http.path("predictions", model, version), file, content_type)


def explain(
    model: options.ModelName,
    file: options.Body,
    version: options.ModelVersion = None,
    content_type: options.ContentType = None,
    url: options.Url = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Send one request for an explanation and print the answer."""
    _send(http.connect(url, token, state_dir), http.path("explanations", model, version), file, content_type)


def _send(server: http.Api, path: str, file: Path, content_type: str | None) -> None:
    with server.send("POST", path, **http.upload(file, content_type)) as response:
        print_body(response.iter_bytes())
