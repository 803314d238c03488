"""The addresses that gRPC is served on: a host with a port, or `unix:/path`."""

from dataclasses import dataclass

from marq.settings.fields import Settings

UNIX = "unix:"


@dataclass(frozen=True)
class Plane:
    """The gRPC server of one API."""

    name: str  # "inference" or "management"
    host: str = ""
    port: int = 0  # 0: a Unix socket
    path: str = ""
    max_connection_age_ms: int = 0
    max_connection_age_grace_ms: int = 0

    @property
    def target(self) -> str:
        """The address as gRPC writes it."""
        if self.path:
            return f"{UNIX}{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def address(self) -> str:
        """The address as `marq.settings.addresses` reads it."""
        return self.target if self.path else f"http://{self.target}"


def planes(settings: Settings) -> list[Plane]:
    """The gRPC servers of a gateway; none where `enable_grpc` is off."""
    names = ("inference", "management") if settings.enable_grpc else ()
    return [_plane(settings, name) for name in names]


def _plane(settings: Settings, name: str) -> Plane:
    host: str = getattr(settings, f"grpc_{name}_address")
    is_path = host.startswith(UNIX)
    return Plane(
        name,
        host="" if is_path else host.strip("[]"),
        port=0 if is_path else getattr(settings, f"grpc_{name}_port"),
        path=host.removeprefix(UNIX) if is_path else "",
        max_connection_age_ms=getattr(settings, f"grpc_{name}_max_connection_age_ms"),
        max_connection_age_grace_ms=getattr(settings, f"grpc_{name}_max_connection_age_grace_ms"),
    )
