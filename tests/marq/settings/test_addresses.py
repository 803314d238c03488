import pytest

from marq.settings.addresses import Address, moved, parse


@pytest.mark.parametrize(
    ("address", "setting", "parsed"),
    [
        ("http://0.0.0.0:80", "inference_address", Address("0.0.0.0", 80)),
        ("http://localhost", "inference_address", Address("localhost", 80)),
        ("https://localhost", "inference_address", Address("localhost", 443, tls=True)),
        ("http://localhost", "management_address", Address("localhost", 8081)),
        ("https://localhost", "management_address", Address("localhost", 8444, tls=True)),
        ("http://localhost", "metrics_address", Address("localhost", 8082)),
        ("https://localhost", "metrics_address", Address("localhost", 8445, tls=True)),
        ("http://[::1]:7070", "inference_address", Address("::1", 7070)),
        ("unix:/tmp/marq.sock", "inference_address", Address(path="/tmp/marq.sock")),
    ],
)
def test_addresses_have_torchserves_default_ports(address, setting, parsed):
    assert parse(address, setting) == parsed


@pytest.mark.parametrize(
    "address", ["", "host:80", "unix:s", "unix://tmp/s", "http://", "http://h:0", "http://h:x", "ftp://h:1"]
)
def test_what_cannot_be_listened_on_is_refused_with_what_can(address):
    with pytest.raises(ValueError, match=f"Invalid binding address: {address}. Write it as http://host:port"):
        parse(address)


@pytest.mark.parametrize(
    ("address", "host", "port", "result"),
    [
        ("http://127.0.0.1:8080", None, 9000, "http://127.0.0.1:9000"),
        ("https://localhost", "0.0.0.0", None, "https://0.0.0.0:443"),
        ("http://[::1]:7070", None, 9000, "http://[::1]:9000"),
        ("http://127.0.0.1:8080", "::", 1, "http://[::]:1"),
    ],
)
def test_an_address_moves_to_another_host_or_port(address, host, port, result):
    assert moved(address, "inference_address", host, port) == result


def test_a_unix_socket_has_no_port_to_change():
    with pytest.raises(ValueError, match=r"inference_address unix:/s is a Unix socket"):
        moved("unix:/s", "inference_address", port=1)
