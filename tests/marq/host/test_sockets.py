import os
import socket
import subprocess
import sys

import pytest
from ports import free_port

from marq.host import sockets as listen
from marq.settings.grpc_addresses import Plane


def test_a_socket_listens_on_its_address():
    port = free_port()
    with listen.listen(f"http://127.0.0.1:{port}", "inference_address") as sock:
        assert sock.getsockname() == ("127.0.0.1", port)
        socket.create_connection(("127.0.0.1", port), timeout=1).close()


def test_a_port_that_a_gateway_uses_names_its_server():
    # Given a gateway, which its server would start again if it were ended
    listens = "s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); s.accept()"
    code = f"import socket; {listens}"
    with subprocess.Popen(
        [sys.executable, "-c", code, "gateway"], stdout=subprocess.PIPE, text=True
    ) as other:
        port = int(other.stdout.readline())
        # When its port is wanted
        with pytest.raises(listen.PortTaken) as caught:
            listen.listen(f"http://127.0.0.1:{port}", "inference_address")
        other.kill()
    # Then the server is named, which can be stopped
    assert f"The marq server with the pid {os.getpid()} uses port {port}: stop it" in str(caught.value)


def test_a_taken_port_names_the_setting_and_the_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(listen.PortTaken) as caught:
            listen.listen(f"http://127.0.0.1:{port}", "management_address")
    assert f"management_address http://127.0.0.1:{port} cannot be used: Address already in use" in str(
        caught.value
    )
    assert f"Process {os.getpid()} (" in str(caught.value)
    assert (
        f") uses port {port}: stop it, or set another management_address (marq start --management-port)."
        in str(caught.value)
    )


def test_a_host_that_is_not_here_is_named():
    with pytest.raises(listen.PortTaken, match=r"inference_address http://192\.0\.2\.1:80\d* cannot be used"):
        listen.listen("http://192.0.2.1:8089", "inference_address")


def test_a_host_without_an_address_is_named():
    with pytest.raises(listen.PortTaken) as caught:
        listen.listen("http://no-such-host.invalid:8089", "inference_address")
    assert "inference_address http://no-such-host.invalid:8089 cannot be used" in str(caught.value)
    assert "Unknown error" not in str(caught.value)


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ValueError, match="Invalid binding address: nonsense"):
        listen.listen("nonsense", "inference_address")


def test_a_child_finds_the_sockets_that_it_inherits():
    # Given two listening sockets
    addresses = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    sockets = {
        "inference": listen.listen(addresses[0], "a"), "management": listen.listen(addresses[1], "b"),
    }  # fmt: skip
    # When a child inherits them
    code = (
        "import os; from marq.host import sockets as listen\n"
        "for name, sock in listen.inherited_sockets(os.environ).items():\n"
        "    print(f'{name} http://127.0.0.1:{sock.getsockname()[1]}')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        pass_fds=[sock.fileno() for sock in sockets.values()],
        env={**os.environ, **listen.environment(sockets)},
    )  # fmt: skip
    # Then it knows which is which
    assert done.stdout.split("\n")[:2] == [f"inference {addresses[0]}", f"management {addresses[1]}"]
    for sock in sockets.values():
        sock.close()


def test_a_unix_socket_is_listened_on(tmp_path):
    path = tmp_path / "marq.sock"
    with listen.listen(f"unix:{path}", "inference_address"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_unix_socket_that_a_killed_server_has_left_is_replaced(tmp_path):
    path = tmp_path / "marq.sock"
    listen.listen(f"unix:{path}", "inference_address").close()
    assert path.exists()
    listen.listen(f"unix:{path}", "inference_address").close()


def test_a_unix_socket_that_is_in_use_is_not_taken_away(tmp_path):
    path = tmp_path / "marq.sock"
    with listen.listen(f"unix:{path}", "inference_address"):
        with pytest.raises(listen.PortTaken, match=f"Stop what uses {path}"):
            listen.listen(f"unix:{path}", "inference_address")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def plane(port=0, **given):
    return Plane("inference", "" if given else "127.0.0.1", port, **given)


def test_a_reserved_port_is_left_to_sockets_that_share_it():
    # Given a reserved port
    port = free_port()
    with listen.reserve(plane(port)), socket.socket() as shares, socket.socket() as other:
        # When a socket that shares ports listens on it
        shares.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shares.bind(("127.0.0.1", port))
        shares.listen()
        # Then it gets the connections, and nothing else can have the port
        with socket.create_connection(("127.0.0.1", port), timeout=60):
            assert shares.accept()
        with pytest.raises(OSError, match="Address already in use"):
            other.bind(("127.0.0.1", port))


def test_a_taken_grpc_port_names_the_setting_and_the_switch():
    port = free_port()
    with listen.listen(f"http://127.0.0.1:{port}", "x"), pytest.raises(listen.PortTaken) as caught:
        listen.reserve(plane(port))
    text = str(caught.value)
    assert text.startswith(f"grpc_inference_port 127.0.0.1:{port} cannot be used: Address already in use.")
    assert text.endswith(
        "stop it, or set another grpc_inference_port (marq start --grpc-port), or MARQ_ENABLE_GRPC=false."
    )


def test_a_taken_grpc_port_is_noticed_though_its_socket_shares_it():
    port = free_port()
    with listen.reserve(plane(port)) as reserved:
        reserved.listen()
        with pytest.raises(listen.PortTaken):
            listen.reserve(plane(port))


def test_a_unix_socket_for_grpc_is_checked_and_left_to_the_gateway(tmp_path):
    path = tmp_path / "grpc.sock"
    assert listen.reserve(plane(path=str(path))) is None
    assert not path.exists()
    with listen.listen(f"unix:{path}", "x"), pytest.raises(listen.PortTaken) as caught:
        listen.reserve(plane(path=str(path)))
    assert f"grpc_inference_address unix:{path} cannot be used" in str(caught.value)
