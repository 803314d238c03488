import socket

import pytest

from archive.errors import ArchiveNotFound
from archive.store.permissions import Permissions


def refusal(permissions: Permissions, url: str) -> ArchiveNotFound:
    with pytest.raises(ArchiveNotFound) as caught:
        permissions.check(url)
    return caught.value


@pytest.fixture
def resolves_to(monkeypatch):
    """Names resolve to these addresses."""

    def set_addresses(*addresses):
        found = [(0, 0, 0, "", (address, 443)) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    return set_addresses


def test_by_default_nothing_is_allowed_and_the_reason_says_which_line_to_write():
    error = refusal(Permissions(), "https://models.example/a/m.mar?key=1")
    assert str(error) == ("Given URL https://models.example/a/m.mar?key=1 does not match any allowed URL(s)")
    line = "allowed_urls=https://models.example/.*"
    assert error.reason == f"To allow it, add this line to config.properties: {line}"
    Permissions([line.removeprefix("allowed_urls=")]).check("https://models.example/a/m.mar?key=1")


def test_a_file_is_named_as_it_is():
    assert refusal(Permissions(public=True), "file:///data/m.mar").reason.endswith(
        "allowed_urls=file:///data/m.mar"
    )


@pytest.mark.parametrize("url", ["https://models.example/m.mar", "HTTP://93.184.216.34:8000/m.mar"])
def test_public_hosts_are_allowed_where_clients_are_trusted(resolves_to, url):
    resolves_to("93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946")
    Permissions(public=True).check(url)
    assert refusal(Permissions(), url)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "::1", "::", "fe80::1%eth0", "fd00::1", "ff02::1", "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused_although_the_name_is(resolves_to, address):
    resolves_to("93.184.216.34", address)
    error = refusal(Permissions(public=True), "https://models.example/m.mar")
    assert f"models.example has the address {address}, which is not public" in error.reason
    assert "allowed_urls=https://models.example/.*" in error.reason
    Permissions(["https://models.example/.*"], public=True).check("https://models.example/m.mar")


@pytest.mark.parametrize(
    "url", ["ftp://h/m.mar", "s3://bucket/m.mar", "file:///etc/m.mar", "gopher://h/m.mar"]
)
def test_only_the_web_is_public(url):
    assert refusal(Permissions(public=True), url)


def test_an_address_that_changed_after_the_check_is_refused():
    permissions = Permissions(public=True)
    permissions.check_address("https://models.example/m.mar", "93.184.216.34")
    with pytest.raises(ArchiveNotFound):
        permissions.check_address("https://models.example/m.mar", "169.254.169.254")


def test_the_operator_may_name_anything():
    for url in ("http://127.0.0.1/m.mar", "file:///m.mar", "s3://b/m.mar"):
        Permissions(everything=True).check(url)
