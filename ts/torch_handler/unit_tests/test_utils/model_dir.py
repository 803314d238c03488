"""Fill a model directory for tests of handlers."""

import shutil
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import urlopen


def download_model(model_url, model_dir):
    """Fetch a file into the directory, unless it is there already."""
    target = Path(model_dir) / Path(urlparse(model_url).path).name
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with urlopen(model_url) as response, target.open("wb") as file:  # noqa: S310 - the test names the URL
        shutil.copyfileobj(response, file)


def copy_files(src_dir, dst_dir, files):
    """Copy `files`, a mapping from names in one directory to names in the other."""
    Path(dst_dir).mkdir(parents=True, exist_ok=True)
    for source, target in files.items():
        shutil.copy(Path(src_dir) / source, Path(dst_dir) / target)
