"""Checks of `marq doctor` of the addresses that a server listens on, and of their certificate."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from marq.errors import MarqError
from marq.host import certificates, server_file, sockets
from marq.host.findings import OK, WARNING, WRONG, Finding
from marq.settings import addresses, grpc_addresses
from marq.settings.fields import Settings


def ports(settings: Settings, server: server_file.Server | None) -> Iterator[Finding]:
    """Whether the addresses of HTTP are free, or those of the server that runs."""
    names = ["inference_address", "management_address", "metrics_address"]
    for name in names if settings.enable_metrics_api else names[:-1]:
        address = getattr(settings, name)
        if server and address == getattr(server, name):
            yield Finding(name, OK, f"{address}: used by the server that runs (pid {server.pid})")
            continue
        try:
            with closing(sockets.listen(address, name)):
                yield Finding(name, OK, f"{address} is free")
            if path := addresses.parse(address, name).path:
                Path(path).unlink(missing_ok=True)
        except sockets.PortTaken as error:
            yield Finding(name, WRONG, str(error), f"Stop the process that uses it, or set another {name}.")


def grpc_ports(settings: Settings, server: server_file.Server | None) -> Iterator[Finding]:
    """The same for gRPC."""
    running = server.resolved() if server else None
    used = {plane.target for plane in grpc_addresses.planes(running.settings)} if running else set()
    for plane in grpc_addresses.planes(settings):
        name = f"{plane.name} gRPC"
        if server and plane.target in used:
            yield Finding(name, OK, f"{plane.target}: used by the server that runs (pid {server.pid})")
            continue
        try:
            if reserved := sockets.reserve(plane):
                reserved.close()
        except sockets.PortTaken as error:
            advice = "Stop the process that uses it, set another port, or MARQ_ENABLE_GRPC=false."
            yield Finding(name, WRONG, str(error), advice)
        else:
            yield Finding(name, OK, f"{plane.target} is free")


def certificate(settings: Settings) -> Iterator[Finding]:
    """Whether the certificate of the addresses is valid, and for how long."""
    if not certificates.uses_tls(settings):
        return
    try:
        days = certificates.days_left(settings)
    except MarqError as error:
        yield Finding("certificate", WRONG, str(error), "See docs/operations.md, TLS.")
        return
    state = WRONG if days < 0 else WARNING if days < certificates.SOON_DAYS else OK
    text = f"valid for {days} days" if days >= 0 else f"expired {-days} days ago"
    yield Finding("certificate", state, text, "" if state == OK else "Renew it.")
