"""What a worker is told before it begins."""

from __future__ import annotations

import json
import socket
import threading

import attrs

from aiomos._control import told
from aiomos._launch import Launch, Place


def test_worker_is_asked_for_more_at_once_the_rest_waits_for_its_channel():
    """A supervisor may ask for statistics, or for the end, before the process has come so far."""
    launch = Launch(app="some.py", interface="s0", engine={"burst": 3})
    place = Place(number=1, count=2, packet=(7, 8))
    first = {"kind": "serve", "launch": attrs.asdict(launch), "place": attrs.asdict(place)}
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(json.dumps(first).encode() + b'\n{"kind": "stats", "id": 1}\n')
        message = told(theirs)
        assert Launch(**message["launch"]) == launch
        assert Place(**message["place"]) == place
        assert theirs.recv(1000) == b'{"kind": "stats", "id": 1}\n'


def test_worker_is_told_in_pieces_it_reads_on():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        text = json.dumps({"launch": {"app": "a" * 300_000}, "place": {}}).encode() + b"\n"
        telling = threading.Thread(target=ours.sendall, args=(text,))
        telling.start()
        message = told(theirs)
        telling.join()
    assert len(message["launch"]["app"]) == 300_000
