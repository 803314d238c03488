"""Clients for other services: they write to the queue themselves, without HTTP."""

from marq.client.asynchronous import AsyncClient, AsyncJob
from marq.client.blocking import Client, Job
from marq.client.requests import encode
from marq.client.results import JobCancelled, JobExpired, JobFailed, PredictionFailed, Result

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "Client",
    "Job",
    "JobCancelled",
    "JobExpired",
    "JobFailed",
    "PredictionFailed",
    "Result",
    "encode",
]
