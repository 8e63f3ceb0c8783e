"""CPython's own tests of ``asyncio.StreamReader``, against an endpoint that the engine feeds.

``fed_reader.FedReader`` is the adapter. What is no test of reading is listed, and so is, with its
reason, what cannot apply to an endpoint: at most ten.
"""

from __future__ import annotations

import asyncio
import sys
import unittest
from pathlib import Path
from unittest import mock

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from fed_reader import FedReader

test_streams = pytest.importorskip(
    "test.test_asyncio.test_streams", reason="this Python comes without its own test package"
)

#: Beginnings of names of cases about constructors, representations, transports and writers.
OF_OTHER_THINGS = (
    *("test_open_", "test_start_", "test_streamreader_constructor", "test_streamreaderprotocol_"),
    *("test___repr__", "test_multiple_drain", "test_drain_raises", "test_read_all_from_pipe"),
    *("test_wait_closed", "test_async_writer", "test_eof_feed_when_closing", "test_unclosed_"),
    *("test_loop_is_closed", "test_unhandled_exceptions", "test_unhandled_cancel", "test_invalid_"),
)

SET = "nobody sets an endpoint's exception: it is that of the flow's end (test_endpoint.py)"
KEPT = (
    "what stays unread over the limit after its handler's turn is lost (semantics.md 5): a tap "
    "cannot pause the sender as a transport does"
)
ONE_BURST = (
    "what is fed at once beyond the limit is not one buffer: a burst of packets ends where a side "
    "is full, and its reader has its turn before the rest (semantics.md 1)"
)
LEFT_OUT = {
    "test_read_exception": SET,
    "test_readline_exception": SET,
    "test_readexactly_exception": SET,
    "test_exception": SET,
    "test_exception_waiter": SET,
    "test_exception_cancel": SET,
    "test_readuntil_limit_found_sep": KEPT,
    "test_readline_limit": ONE_BURST,
    "test_readline_limit_with_existing_data": ONE_BURST,
}


class TestStreamReader(test_streams.StreamTests):
    def setUp(self):
        super().setUp()
        patch = mock.patch.object(asyncio, "StreamReader", FedReader)
        patch.start()
        self.addCleanup(patch.stop)


for name in dir(TestStreamReader):
    if name.startswith(OF_OTHER_THINGS):
        setattr(TestStreamReader, name, None)
    elif name in LEFT_OUT:
        case = getattr(TestStreamReader, name)
        setattr(TestStreamReader, name, unittest.skip(LEFT_OUT[name])(case))


def test_no_more_than_ten_cases_are_left_out():
    assert len(LEFT_OUT) <= 10
    assert all(hasattr(test_streams.StreamTests, name) for name in LEFT_OUT)


def test_cases_of_reading_are_run():
    """So that a renamed case does not go unnoticed."""
    cases = [n for n in dir(TestStreamReader) if n.startswith("test_") and n not in LEFT_OUT]
    run = [n for n in cases if callable(getattr(TestStreamReader, n))]
    assert len(run) > 20
