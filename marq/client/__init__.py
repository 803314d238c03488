"""Clients for other services: they write to the queue themselves, without HTTP."""

from marq.client.asynchronous import AsyncClient
from marq.client.blocking import Client
from marq.client.blocking_jobs import Batch, Job
from marq.client.jobs import AsyncBatch, AsyncJob
from marq.client.requests import encode
from marq.client.results import JobCancelled, JobExpired, JobFailed, PredictionFailed, Result

__all__ = [
    "AsyncBatch",
    "AsyncClient",
    "AsyncJob",
    "Batch",
    "Client",
    "Job",
    "JobCancelled",
    "JobExpired",
    "JobFailed",
    "PredictionFailed",
    "Result",
    "encode",
]
