"""The hosts that webhooks may reach: users of a server must not reach hosts that only it can reach."""

import ipaddress
import socket
from dataclasses import dataclass

from marq.errors import BadRequest, MarqError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # IPv4 addresses behind NAT64
ANY = "*"


class AddressRefused(MarqError):
    """Raised when none of a host's addresses may be sent to."""


@dataclass(frozen=True)
class AllowedHosts:
    """The hosts that may get webhooks; without any, all with public addresses.

    A host with an allowed name may have a private address. `*` adds all public addresses to the others.
    """

    names: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    public: bool = True

    @classmethod
    def parse(cls, text: str) -> "AllowedHosts":
        """Reads the setting `webhook_allowed_hosts`: `hooks.example.org, *.internal, 10.1.0.0/16`."""
        names: set[str] = set()
        networks: list[Network] = []
        given = [each.strip().lower() for each in text.split(",") if each.strip()]
        for each in given:
            try:
                networks.append(ipaddress.ip_network(each.strip("[]"), strict=False))
            except ValueError:
                names.add(each)
        return cls(frozenset(names - {ANY}), tuple(networks), not given or ANY in names)

    def allows_name(self, host: str) -> bool:
        """Whether the host may be sent to, whatever its address is."""
        host = host.lower().rstrip(".")
        parents = host.split(".")[1:]
        wider = (f"*.{'.'.join(parents[at:])}" for at in range(len(parents)))
        return host in self.names or any(name in self.names for name in wider)

    def allows_address(self, text: str) -> bool:
        """Whether a host may be sent to at this address."""
        address = _plain(ipaddress.ip_address(text.partition("%")[0]))
        inside = any(address in network for network in self.networks)
        return inside or (self.public and _is_public(address))

    def check(self, host: str, name: str, setting: str) -> None:
        """Raises BadRequest for a host that can never be sent to; `name` is that of the URL.

        A host that is a name may still be refused, when its address is known.
        """
        if self.allows_name(host):
            return
        address = _written_address(host)
        if self.allows_address(address) if address else self.public or self.networks:
            return
        why = " is not a public address" if address and self.public else " is not allowed"
        raise BadRequest(f"{name}: {host}{why}; the server's setting {setting} can name it.")


PUBLIC = AllowedHosts()


def _written_address(host: str) -> str:
    """The address that a host is, also in the forms that only the C library reads (127.1); "" for a name.

    The name localhost stands for one address only (RFC 6761).
    """
    if f".{host.lower().rstrip('.')}".endswith(".localhost"):
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return ""


def _plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _is_public(address: Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved
