"""What each end of a connection really sent and received, counted at its socket.

`Ledger` pairs the two ends by their addresses and writes the truth that is kept beside a capture.
"""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
from dataclasses import dataclass
from typing import Any

RECEIVE_SIZE = 65_536
NO_LINGER = struct.pack("ii", 1, 0)

Key = tuple[str, int, str, int]


class Tally:
    """Length and digest of one direction, as one end saw it."""

    def __init__(self) -> None:
        self.bytes = 0
        self.skipped = 0
        self._digest = hashlib.sha256()

    def add(self, data: bytes) -> None:
        """Count bytes that were sent or received."""
        self.bytes += len(data)
        self._digest.update(data)

    def restart(self) -> None:
        """Count from here on; remember only how much went before."""
        self.skipped += self.bytes
        self.bytes = 0
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """The digest of what was counted, in hex."""
        return self._digest.hexdigest()


class End:
    """One application's end of a TCP connection.

    One thread may receive while another sends.
    """

    def __init__(self, sock: socket.socket, *, connected: bool = True) -> None:
        self.sent = Tally()
        self.received = Tally()
        self.fin_sent = False
        self.fin_received = False
        self.reset_sent = False
        self.reset_received = False
        self._sock = sock
        self._connected = connected
        self._aborting = False

    def connect(self, peer: tuple[str, int], timeout: float | None = None) -> None:
        """Open the connection; a refusal counts as a reset."""
        self._sock.settimeout(timeout)
        try:
            self._sock.connect(peer)
        except ConnectionRefusedError:
            self.reset_received = True
            raise
        self._sock.settimeout(None)
        self._connected = True

    def receive(self, limit: int = RECEIVE_SIZE) -> bytes:
        """The next bytes; nothing at the peer's FIN, or after `abort`."""
        try:
            data = self._sock.recv(limit)
        except ConnectionError:
            self.reset_received = True
            raise
        self.received.add(data)
        if not data and not self._aborting:
            self.fin_received = True
        return data

    def receive_exactly(self, length: int) -> bytes:
        """The next `length` bytes; fewer only at the peer's FIN."""
        parts = []
        while length and (data := self.receive(min(length, RECEIVE_SIZE))):
            parts.append(data)
            length -= len(data)
        return b"".join(parts)

    def receive_all(self) -> bytes:
        """Everything up to the peer's FIN."""
        return b"".join(iter(self.receive, b""))

    def send(self, data: bytes) -> None:
        """Send all; what the kernel took before an error is counted."""
        view = memoryview(data)
        while view:
            try:
                taken = self._sock.send(view)
            except ConnectionError:
                self.reset_received = True
                raise
            self.sent.add(bytes(view[:taken]))
            view = view[taken:]

    def finish(self) -> None:
        """Send FIN, and go on receiving."""
        if not self._aborting and not self.fin_sent:
            self._sock.shutdown(socket.SHUT_WR)
            self.fin_sent = True

    def abort(self) -> None:
        """Wake a receiving thread; `close` will send RST in place of FIN."""
        self._aborting = True
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            self._sock.shutdown(socket.SHUT_RD)
        except OSError:
            pass  # already reset by the peer

    def close(self) -> None:
        """Give the socket back; sends FIN (RST after `abort`) if none was sent yet."""
        finished = self.fin_sent and self.fin_received
        over = self.reset_received or finished or not self._connected
        if self._aborting:
            self.reset_sent = not over
        else:
            self.fin_sent = self.fin_sent or not over
        self._sock.close()

    def reset(self) -> None:
        """Send RST at once."""
        self.abort()
        self.close()


@dataclass
class Conversation:
    """The two recorded ends of one connection; an end that was never reached is None."""

    key: Key
    client: End | None = None
    server: End | None = None

    def ends(self) -> list[End]:
        """The ends that exist."""
        return [end for end in (self.client, self.server) if end]

    def how_it_ended(self) -> str:
        """`rst` if either end reset it, else how many ends sent FIN."""
        if any(end.reset_sent or end.reset_received for end in self.ends()):
            return "rst"
        fins = sum(end.fin_sent for end in self.ends())
        return ("none", "fin_half", "fin")[fins]

    def truth(self) -> dict[str, Any]:
        """The connection as it is written beside the capture."""
        src, sport, dst, dport = self.key
        row: dict[str, Any] = {"src": src, "sport": sport, "dst": dst, "dport": dport}
        row |= _direction("client", self.client, self.server)
        row |= _direction("server", self.server, self.client)
        return row | {"end": self.how_it_ended()}


def _direction(name: str, sender: End | None, receiver: End | None) -> dict[str, Any]:
    """One direction: what the receiver got is the answer, and exact if it is all that was sent."""
    got = receiver.received if receiver else Tally()
    gave = sender.sent if sender else Tally()
    row: dict[str, Any] = {
        f"{name}_bytes": got.bytes,
        f"{name}_sha256": got.sha256,
        f"{name}_exact": (got.bytes, got.sha256) == (gave.bytes, gave.sha256),
        f"{name}_sent_bytes": gave.bytes,
    }
    if gave.skipped:
        row[f"{name}_skipped"] = gave.skipped
    return row


class Ledger:
    """The connections of one capture, in the order in which they were opened."""

    def __init__(self) -> None:
        self._conversations: dict[Key, Conversation] = {}
        self._lock = threading.Lock()

    def client_end(self, sock: socket.socket, peer: tuple[str, int]) -> End:
        """Record a bound, not yet connected socket as the client of a connection to `peer`."""
        end = End(sock, connected=False)
        host, port = sock.getsockname()[:2]
        with self._lock:
            self._find((host, port, *peer)).client = end
        return end

    def server_end(self, sock: socket.socket) -> End:
        """Record an accepted socket."""
        end = End(sock)
        host, port = sock.getsockname()[:2]
        peer_host, peer_port = sock.getpeername()[:2]
        with self._lock:
            self._find((peer_host, peer_port, host, port)).server = end
        return end

    def restart(self) -> None:
        """Count from here on: the capture begins in the middle of the connections now open."""
        with self._lock:
            for conversation in self._conversations.values():
                for end in conversation.ends():
                    end.sent.restart()
                    end.received.restart()

    def last_key(self) -> Key:
        """The key of the connection opened last."""
        with self._lock:
            return next(reversed(self._conversations))

    def truth(self) -> list[dict[str, Any]]:
        """All connections, first opened first."""
        with self._lock:
            return [conversation.truth() for conversation in self._conversations.values()]

    def _find(self, key: Key) -> Conversation:
        return self._conversations.setdefault(key, Conversation(key))
