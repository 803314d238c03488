import pytest

from marq.errors import BadRequest
from marq.webhooks.hosts import AllowedHosts


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1",
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fd00::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::",
    ],
)  # fmt: skip
def test_addresses_inside_are_refused(address):
    assert not AllowedHosts.parse("").allows_address(address)
    assert not AllowedHosts.parse("hooks.example.org, *").allows_address(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_public_addresses_are_allowed_unless_others_are_named(address):
    assert AllowedHosts.parse("").allows_address(address)
    assert AllowedHosts.parse("*, 10.0.0.0/8").allows_address(address)
    assert not AllowedHosts.parse("hooks.example.org").allows_address(address)


def test_networks_and_names_are_allowed_wherever_they_lie():
    allowed = AllowedHosts.parse("10.1.0.0/16, Hooks.Internal, *.corp.example")
    assert allowed.allows_address("10.1.2.3")
    assert allowed.allows_address("::ffff:10.1.2.3")
    assert not allowed.allows_address("10.2.0.1")
    assert allowed.allows_name("hooks.internal.")
    assert allowed.allows_name("a.b.corp.example")
    assert not allowed.allows_name("corp.example")
    assert not allowed.allows_name("evilcorp.example")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "10.0.0.1",
        "169.254.169.254",
        "::1",
        "fe80::1",
        "localhost",
        "a.localhost",
    ],
)
def test_an_address_inside_is_refused_before_it_is_sent_to(host):
    with pytest.raises(BadRequest, match=f"webhook: {host} is not a public address; .* the_setting can name"):
        AllowedHosts.parse("").check(host, "webhook", "the_setting")
    AllowedHosts.parse("127.0.0.0/8, 10.0.0.0/8, 169.254.0.0/16, ::/0").check(host, "webhook", "the_setting")


def test_the_address_of_a_name_is_not_known_yet():
    for setting in ("", "*", "10.0.0.0/8", "hooks.example.org"):
        AllowedHosts.parse(setting).check("hooks.example.org", "webhook", "the_setting")
    # But where names alone are allowed, no address can allow another one
    for host in ("other.example.org", "93.184.215.14"):
        with pytest.raises(BadRequest, match=f"webhook: {host} is not allowed"):
            AllowedHosts.parse("hooks.example.org").check(host, "webhook", "the_setting")
