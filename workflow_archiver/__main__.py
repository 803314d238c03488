"""`python -m workflow_archiver` is `torch-workflow-archiver`."""

from workflow_archiver.workflow_packaging import generate_workflow_archive

generate_workflow_archive()
