"""`marq predict`."""

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
    path = http.path("predictions", model, version)
    server = http.connect(url, token, state_dir)
    with server.send("POST", path, **http.upload(file, content_type)) as response:
        print_body(response.iter_bytes())
