"""Writes a snapshot when the registry has changed, and one when the server stops."""

import asyncio
from pathlib import Path

from gateway.routing.routes import Routes
from marq.control import snapshots as files
from marq.registry.snapshot import Models
from marq.settings import snapshot_files
from marq.settings.snapshot_files import Snapshots


class SnapshotWriter:
    """Writes the snapshots of a server; does nothing in a gateway that does not write them."""

    def __init__(self, snapshots: Snapshots | None, routes: Routes) -> None:
        self._snapshots, self._routes = snapshots, routes
        self._seen: Models | None = None
        self._written: files.State = {}
        if snapshots and (newest := snapshot_files.newest(Path(snapshots.folder))):
            self._written = newest.state

    async def update(self) -> None:
        """Writes the models if they differ from those of the last file."""
        models = self._routes.registered
        if self._snapshots is None or models is None or models is self._seen:
            return
        self._seen, state = models, files.state(models)
        if state != self._written:
            self._written = state
            await asyncio.to_thread(files.write, self._snapshots, files.CHANGE, state)

    def finish(self) -> None:
        """Writes the snapshot of a server that stops."""
        if self._snapshots and self._routes.registered:
            files.write(self._snapshots, files.SHUTDOWN, files.state(self._routes.registered))
