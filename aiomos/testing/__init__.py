"""Tests of middleboxes without a network: conversations, runs, a virtual clock.

::

    from aiomos import testing

    def test_request_is_logged():
        talk = testing.Conversation().handshake().data("client", b"GET / HTTP/1.1\\r\\n").close()
        result = testing.run(app, talk)
        assert result.flow().close_reason == "FIN"

:func:`run` plays everything at once; :func:`engine` word by word, inside a coroutine. With pytest
come the fixtures ``aiomos_engine``, ``aiomos_replay`` and ``aiomos_no_leaks``.
"""

from aiomos._engine.source import RawFrame as Frame
from aiomos.testing import frames
from aiomos.testing._impair import Impair
from aiomos.testing._leaks import no_leaks
from aiomos.testing._result import Failure, FlowReport, Result, Verdict
from aiomos.testing._run import run
from aiomos.testing._script import PACE, START, Script, client, server
from aiomos.testing._stepped import SteppedEngine, engine, new_event_loop
from aiomos.testing._tcp import Conversation, Fields
from aiomos.testing._udp import DatagramFields, Datagrams

__all__ = [
    "PACE",
    "START",
    "Conversation",
    "DatagramFields",
    "Datagrams",
    "Failure",
    "Fields",
    "FlowReport",
    "Frame",
    "Impair",
    "Result",
    "Script",
    "SteppedEngine",
    "Verdict",
    "client",
    "engine",
    "frames",
    "new_event_loop",
    "no_leaks",
    "run",
    "server",
]
