"""Relays: the recorded, real ends of connections between programs that know nothing of them.

A program of the client's host connects to a relay on its loopback; that relay connects across the
captured wire to a relay on the server's host, which connects to the real server on its loopback.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from lab.netns import CLIENT, SERVER, Lab
from lab.record import End, Ledger

LOOPBACK = "127.0.0.1"


def pump(source: End, sink: End) -> None:
    """Carry one direction to its end; a reset on either side resets the other."""
    try:
        while data := source.receive():
            sink.send(data)
        sink.finish()
    except OSError:
        source.abort()
        sink.abort()


def join(near: End, far: End) -> None:
    """Carry both directions, then close both ends."""
    other = threading.Thread(target=pump, args=(far, near), daemon=True)
    other.start()
    pump(near, far)
    other.join()
    near.close()
    far.close()


class Relay:
    """Accepts on `listener` and dials out once for each connection accepted."""

    def __init__(
        self,
        listener: socket.socket,
        accepted: Callable[[socket.socket], End],
        dial: Callable[[], End],
    ) -> None:
        self.port: int = listener.getsockname()[1]
        self._listener = listener
        self._accepted = accepted
        self._dial = dial
        self._threads: list[threading.Thread] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # closed
            thread = threading.Thread(target=self._carry, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _carry(self, sock: socket.socket) -> None:
        near = self._accepted(sock)
        try:
            far = self._dial()
        except OSError:
            near.reset()
            return
        join(near, far)

    def drain(self, timeout: float = 60.0) -> None:
        """Wait until every connection accepted so far has ended."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                raise TimeoutError("a relayed connection did not end")

    def close(self) -> None:
        """Accept no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def connect(lab: Lab, ledger: Ledger, peer: tuple[str, int]) -> End:
    """A recorded connection from the client's host to `peer`."""
    end = dial(lab, ledger, peer)
    end.connect(peer)
    return end


def dial(lab: Lab, ledger: Ledger, peer: tuple[str, int]) -> End:
    """A recorded end on the client's host, bound but not yet connected to `peer`."""
    version = 6 if ":" in peer[0] else 4
    sock = lab.client.tcp_socket(version)
    sock.bind((CLIENT.address(version), 0))
    return ledger.client_end(sock, peer)


def client_relay(lab: Lab, ledger: Ledger, version: int, port: int) -> Relay:
    """On the client's loopback, the way across the wire to `port` of the server's host."""
    listener = lab.client.listen(LOOPBACK)
    return Relay(listener, End, lambda: connect(lab, ledger, (SERVER.address(version), port)))


def server_relay(lab: Lab, ledger: Ledger, version: int, port: int, backend: int) -> Relay:
    """On the server's host, the way from the wire to a server on its loopback."""
    listener = lab.server.listen(SERVER.address(version), port)

    def to_backend() -> End:
        sock = lab.server.tcp_socket(4)
        sock.connect((LOOPBACK, backend))
        return End(sock)

    return Relay(listener, ledger.server_end, to_backend)
