"""Clients for other services: they write to the queue themselves, without HTTP."""

from marq.client.asynchronous import AsyncClient, AsyncJob, PredictionFailed, Result, encode
from marq.client.blocking import Client, Job

__all__ = ["AsyncClient", "AsyncJob", "Client", "Job", "PredictionFailed", "Result", "encode"]
