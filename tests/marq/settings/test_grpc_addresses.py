import pytest

from marq.settings.fields import Settings
from marq.settings.grpc_addresses import planes


def targets(**given):
    return [plane.target for plane in planes(Settings(**given))]


def test_the_addresses_are_torchserves():
    assert targets() == ["127.0.0.1:7070", "127.0.0.1:7071"]


@pytest.mark.parametrize(
    ("host", "target"), [("::", "[::]:7070"), ("[::1]", "[::1]:7070"), ("0.0.0.0", "0.0.0.0:7070")]
)
def test_addresses_of_ipv6_are_written_in_brackets(host, target):
    assert targets(grpc_inference_address=host)[0] == target


def test_a_unix_socket_has_no_port():
    inference, _ = planes(Settings(grpc_inference_address="unix:/tmp/s"))
    assert (inference.target, inference.port, inference.path) == ("unix:/tmp/s", 0, "/tmp/s")


def test_switched_off_there_are_none():
    assert targets(enable_grpc=False) == []
