"""TLS in flight: handshakes at both ends of a connection hold the capture clock."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from held_clock import SLOW, assert_free, assert_held
from slow_servers import serving, slow_echo

from aiomos._replay_loop import ReplayLoop

pytestmark = pytest.mark.usefixtures("deadline")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is needed to make a certificate")
    pem = tmp_path_factory.mktemp("tls") / "certificate.pem"
    make = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -out {pem}"
    subprocess.run([*shlex.split(make), "-keyout", f"{pem}.key"], check=True, capture_output=True)
    return pem


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, f"{certificate}.key")
    return context


def client_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False
    return context


def test_tls_handshake_and_response_hold(certificate: Path) -> None:
    async def main(loop: ReplayLoop) -> None:
        context = client_context(certificate)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(b"hi\n")
        assert await reader.readline() == b"you said hi\n"
        writer.close()
        await writer.wait_closed()

    with serving(slow_echo, ssl=server_context(certificate)) as port:
        assert_held(main)


def test_tls_closing_handshake_holds(certificate: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peer = server_context(certificate).wrap_socket(listener.accept()[0], server_side=True)
        time.sleep(SLOW)
        with contextlib.suppress(OSError):
            peer.unwrap()
        peer.close()

    async def main(loop: ReplayLoop) -> None:
        address = listener.getsockname()
        _, writer = await asyncio.open_connection(*address, ssl=client_context(certificate))
        writer.close()
        await writer.wait_closed()

    thread = threading.Thread(target=serve)
    thread.start()
    assert_held(main)
    thread.join()
    listener.close()


def test_tls_handshake_of_an_accepted_connection_does_not_hold(certificate: Path) -> None:
    async def main(loop: ReplayLoop) -> list[Callable[[], object]]:
        accepted = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.set()
            with contextlib.suppress(ConnectionError):
                await writer.start_tls(server_context(certificate))

        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = socket.create_connection(listener.sockets[0].getsockname())
        await accepted.wait()
        return [client.close, listener.close]

    assert_free(main)
