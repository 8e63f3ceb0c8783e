"""Connections that begin and end in every way TCP knows, between two recorded sockets."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from lab import servers, site
from lab.netns import SERVER
from lab.record import End
from lab.relay import connect, dial
from lab.stage import Stage, url

Pair = tuple[End, End]
PORT, CLOSED_PORT, SILENT_PORT, MEETING_PORT = 7000, 7001, 7002, 7003
WALL = f"""table inet wall {{
  chain in {{ type filter hook input priority 0; tcp dport {SILENT_PORT} drop; }}
}}"""


def pair(stage: Stage, version: int, port: int = PORT) -> Pair:
    """A new connection: its client and its server end."""
    peer = (SERVER.address(version), port)
    with stage.lab.server.listen(*peer) as listener:
        client = connect(stage.lab, stage.ledger, peer)
        server = stage.ledger.server_end(listener.accept()[0])
    for end in (client, server):
        stage.closing.callback(end.close)
    return client, server


def exchange(ends: Pair, question: int, answer: int) -> None:
    """The client asks, the server answers; both have all of it afterwards."""
    client, server = ends
    client.send(site.numbered_lines(question, "question"))
    server.receive_exactly(question)
    server.send(site.numbered_lines(answer, "answer"))
    client.receive_exactly(answer)


def refused(stage: Stage, version: int) -> None:
    """Nobody listens: SYN, RST."""
    with contextlib.suppress(ConnectionRefusedError):
        connect(stage.lab, stage.ledger, (SERVER.address(version), CLOSED_PORT))


def unanswered(stage: Stage) -> None:
    """A firewall drops the SYN and its repetition."""
    stage.lab.server.do("nft", WALL)
    peer = (SERVER.ipv4, SILENT_PORT)
    end = dial(stage.lab, stage.ledger, peer)
    with contextlib.suppress(TimeoutError):
        end.connect(peer, timeout=1.5)
    end.close()


def reset_unused(stage: Stage) -> None:
    """The client resets a connection that carried nothing."""
    client, server = pair(stage, 6)
    client.reset()
    expect_reset(server)


def reset_after_answer(stage: Stage) -> None:
    """The server resets when all was delivered."""
    ends = client, server = pair(stage, 4)
    exchange(ends, 500, 3_000)
    server.reset()
    expect_reset(client)


def reset_during_upload(stage: Stage) -> None:
    """The server resets with three quarters of the upload unread."""
    client, server = pair(stage, 4)
    client.send(site.numbered_lines(40_000, "upload"))
    server.receive_exactly(10_000)
    time.sleep(0.1)
    server.reset()
    expect_reset(client)


def close_with_unread(stage: Stage) -> None:
    """The client closes without reading the rest: its kernel resets."""
    client, server = pair(stage, 6)
    server.send(site.numbered_lines(30_000, "download"))
    client.receive_exactly(5_000)
    time.sleep(0.1)
    client.close()
    expect_reset(server)


def data_after_close(stage: Stage) -> None:
    """The client closes, the server goes on sending: FIN, data, RST."""
    ends = client, server = pair(stage, 4)
    exchange(ends, 100, 1_000)
    client.close()
    server.receive_all()
    server.send(site.numbered_lines(2_000, "late"))
    time.sleep(0.1)
    expect_reset(server)


def expect_reset(end: End) -> None:
    """Read on until the reset is noticed."""
    with contextlib.suppress(ConnectionError):
        while end.receive():
            pass
        end.send(b"?")


def half_close(stage: Stage) -> None:
    """The client ends its side first, and is then answered at length."""
    client, server = pair(stage, 6)
    client.send(b"everything there is\n")
    client.finish()
    server.receive_all()
    server.send(site.numbered_lines(20_000, "listing"))
    server.close()
    client.receive_all()
    client.close()


def close_at_once(stage: Stage) -> None:
    """Both ends send FIN before they see the other's."""
    ends = client, server = pair(stage, 4)
    exchange(ends, 200, 200)
    client.finish()
    server.finish()
    for end in ends:
        end.receive_all()
        end.close()


def left_half_closed(stage: Stage) -> None:
    """The server sends FIN; the client has not when the capture ends."""
    client, server = pair(stage, 4)
    server.send(site.numbered_lines(800, "banner"))
    server.finish()
    client.receive_all()


def left_open(stage: Stage) -> None:
    """Neither end has closed when the capture ends."""
    exchange(pair(stage, 6), 1_000, 2_000)


def open_at_once(stage: Stage) -> None:
    """Two SYNs cross on the wire, and one connection comes of them."""
    peer = (SERVER.ipv4, MEETING_PORT)
    client = dial(stage.lab, stage.ledger, peer)
    sock = stage.lab.server.tcp_socket(4)
    sock.bind(peer)
    opening = threading.Thread(target=client.connect, args=(peer,), daemon=True)
    opening.start()
    sock.connect(stage.ledger.last_key()[:2])
    opening.join()
    server = stage.ledger.server_end(sock)
    exchange((client, server), 400, 600)
    client.finish()
    server.receive_all()
    server.close()
    client.receive_all()
    client.close()


def curl_gives_up(stage: Stage) -> None:
    """A real client goes away in the middle of a slow download."""
    stage.closing.enter_context(servers.nginx(stage.lab.server, stage.directory))
    way = stage.serve(80, servers.HTTP)[4]
    stage.curl(way, "--max-time", "0.4", url("slow/photo.bin"), check=False)
    stage.drain()


def play(stage: Stage) -> Iterator[None]:
    """All of them, one after the other."""
    yield
    for version in (4, 6):
        refused(stage, version)
    for case in (
        *(unanswered, reset_unused, reset_after_answer, reset_during_upload, close_with_unread),
        *(data_after_close, half_close, close_at_once, open_at_once, curl_gives_up),
        *(left_half_closed, left_open),
    ):
        case(stage)
