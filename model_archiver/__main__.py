"""`python -m model_archiver` is `torch-model-archiver`."""

from model_archiver.model_packaging import main

main()
