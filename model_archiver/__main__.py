"""`python -m model_archiver` is `torch-model-archiver`."""

from model_archiver.model_packaging import generate_model_archive

generate_model_archive()
