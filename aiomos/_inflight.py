"""Real work in flight: what makes the clock of a replay stand still.

One idea: a registry of *operations*. Each has a beginning in real seconds and a patience; while one
that is not yet spent is open, and some task waits, the replay loop blocks in the real ``select``
and neither packets nor capture time move (semantics.md 4). An operation that outlasts its patience
is *spent*: counted, reported once, and it never holds again, until whoever began it ends it.

Operations come from two places:

* *Calls with an end of their own* (executor jobs, name look-ups, ``sock_*``, handshakes): the loop
  wraps them in `InFlight.hold` or `InFlight.begin` / `InFlight.end`. What such a call does inside
  (``create_connection`` looks a name up, then connects) is part of it, not a second operation.
* *Watches*, judged whenever the loop is idle, because nothing tells us when a reader begins to
  wait: `Connection` for the client side of a stream, `Child` for a subprocess.

When does a connection count? It has at most one open *question*, and counts while a reader waits:

======================  ==============================  ========================================
question                asked by                        answered when
======================  ==============================  ========================================
`Question.READER`       a write while no reader waits   the reader that then waited has stopped
                        (request, then response)        waiting at an idle moment
`Question.FIRST_DATA`   connecting (a greeting may      the first data arrives
                        come); a write while a reader
                        waits all the time; a write
                        where readers cannot be seen
======================  ==============================  ========================================

So a response in many segments holds to its end, a pooled connection holds nothing, and one that
waits for messages for ever (a subscription) costs its patience once and then nothing until it asks
again. Readers are seen in asyncio's streams, aiohttp and anyio (`reader_waiting`); any other
protocol counts from a question to the first data after it. Connections that a listener accepted
are never watched: there it is the other side that asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import logging
import math
import reprlib
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextvars import ContextVar
from typing import Any, TypeVar, TypeVarTuple

__all__ = ["InFlight", "Operation", "WorkingLoop", "reader_waiting"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_log = logging.getLogger("aiomos.replay")

#: Where the future of a waiting reader is found, as a path of attributes from the protocol:
#: asyncio's streams; aiohttp's responses and their payloads; anyio's streams.
_PLACES = (
    ("_stream_reader", "_waiter"),
    ("_waiter",),
    ("_payload", "_waiter"),
    ("_payload", "_eof_waiter"),
    ("read_event", "_waiters"),
)


class Operation:
    """One piece of real work.

    Attributes:
        kind, subject: for the report.
        began: real time in seconds (``time.monotonic``) at which it began.
        patience: for how many real seconds it may hold the clock.
        spent: its patience ran out; it does not hold any more.
        done: it has ended.
    """

    __slots__ = ("began", "done", "kind", "patience", "spent", "subject")

    def __init__(self, kind: str, subject: object, patience: float) -> None:
        self.kind = kind
        self.subject = subject
        self.patience = patience
        self.began = time.monotonic()
        self.spent = False
        self.done = False

    def __str__(self) -> str:
        return f"{self.kind} {reprlib.repr(self.subject)}"


#: The operation that the running code is part of. Child tasks inherit it, so that the attempts of
#: a "happy eyeballs" connection belong to it. It is never reset: a done operation means none.
_enclosing: ContextVar[Operation | None] = ContextVar("aiomos_operation", default=None)


class InFlight:
    """The registry. `patience` is in real seconds; `on_begin` is called when work begins."""

    def __init__(self, patience: float, on_begin: Callable[[], None]) -> None:
        self.patience = patience
        self.spent = 0  # operations whose patience ran out, ever
        self._on_begin = on_begin
        self._open: dict[Operation, None] = {}  # a set in order of beginning
        self._watches: dict[object, Connection | Child] = {}

    def begin(self, kind: str, subject: object, patience: float | None = None) -> Operation | None:
        """Open an operation; None inside another one, of which this work is then a part."""
        outer = _enclosing.get()
        if outer is not None and not outer.done:
            return None
        return self._begin(kind, subject, patience)

    def _begin(self, kind: str, subject: object, patience: float | None = None) -> Operation:
        operation = Operation(kind, subject, self.patience if patience is None else patience)
        self._open[operation] = None
        self._on_begin()
        return operation

    def end(self, operation: Operation | None) -> None:
        """Close an operation; None and a closed one are allowed."""
        if operation is not None:
            operation.done = True
            self._open.pop(operation, None)

    @contextlib.contextmanager
    def hold(
        self, kind: str, subject: object = "", patience: float | None = None
    ) -> Iterator[None]:
        """Count the body as one operation (usable around any awaits, also by other libraries)."""
        operation = self.begin(kind, subject, patience)
        if operation is not None:
            _enclosing.set(operation)
        try:
            yield
        finally:
            self.end(operation)

    def watch(self, key: object, watch: Connection | Child) -> None:
        """Judge `watch` at idle moments. Connections use their descriptor as key."""
        self.forget(key)
        self._watches[key] = watch

    def forget(self, key: object) -> None:
        """Stop watching."""
        if (watch := self._watches.pop(key, None)) is not None:
            self.end(watch.operation)

    def asked(self, connection: Connection) -> None:
        """A connection has a new question: an earlier operation of its, spent or not, is over."""
        self.end(connection.operation)
        connection.operation = None
        self._on_begin()

    def received(self, fd: int) -> None:
        """The selector says that there is something to read at `fd`."""
        watch = self._watches.get(fd)
        if isinstance(watch, Connection):
            watch.received()

    def held_for(self, someone_waits: Callable[[], bool]) -> float | None:
        """For how many more real seconds the clock is held at most; None when it is free.

        To be asked at an idle moment, after the selector was polled: an operation that is complete
        but not yet processed must not be reported as late.
        """
        if self._watches:
            self._judge()
        holding = [operation for operation in self._open if not operation.spent]
        if not holding or not someone_waits():
            return None
        now = time.monotonic()
        left = [operation.began + operation.patience - now for operation in holding]
        for operation, rest in zip(holding, left, strict=True):
            if rest <= 0:
                self._spend(operation)
        return min((rest for rest in left if rest > 0), default=None)

    def _spend(self, operation: Operation) -> None:
        operation.spent = True
        self.spent += 1
        _log.warning(
            "%s has taken more than %g s of real time: capture time goes on without it",
            operation,
            operation.patience,
        )

    def _judge(self) -> None:
        for key, watch in list(self._watches.items()):
            if watch.over():
                self.forget(key)
            elif not watch.counts():
                self.end(watch.operation)
                watch.operation = None
            elif watch.operation is None:
                watch.operation = self._begin(watch.kind, watch.subject)


class Question(enum.Enum):
    """What a connection is waiting to be told; see the table at the top."""

    NONE = enum.auto()
    FIRST_DATA = enum.auto()
    READER = enum.auto()


class Connection:
    """The client side of a stream transport.

    asyncio has no hook for writes, so the two public methods that write are shadowed on the
    transport object itself; with TLS that is the outer transport, so that handshake records and
    session tickets are not taken for questions.
    """

    kind = "connection to"

    def __init__(self, in_flight: InFlight, transport: asyncio.Transport) -> None:
        self._in_flight = in_flight
        self._transport = transport
        self._socket = transport.get_extra_info("socket")
        self._tls = transport.get_extra_info("sslcontext") is not None
        self.question = Question.FIRST_DATA
        self.operation: Operation | None = None
        self.subject: object = transport.get_extra_info("peername")
        self._shadow("write")
        self._shadow("writelines")
        in_flight.watch(self._socket.fileno(), self)

    def _shadow(self, name: str) -> None:
        plain = getattr(self._transport, name)

        def write(data: Any) -> None:
            self.wrote()
            plain(data)

        setattr(self._transport, name, write)

    def wrote(self) -> None:
        """The protocol writes: perhaps a new question.

        Further writes belong to the open question (the body of a request), with one exception: if
        its operation is spent and the reader still waits, that reader waits for ever, and what is
        asked now is answered by the next data.
        """
        spent = self.operation is not None and self.operation.spent
        if self.question is Question.READER and not spent:
            return
        if reader_waiting(self._transport.get_protocol()) is False:
            self._ask(Question.READER)
        elif self.question is not Question.FIRST_DATA:
            self._ask(Question.FIRST_DATA)

    def _ask(self, question: Question) -> None:
        self.question = question
        self._in_flight.asked(self)

    def received(self) -> None:
        """Data, or the end of the stream, has arrived."""
        if self.question is Question.FIRST_DATA:
            self.question = Question.NONE

    def over(self) -> bool:
        """Closed; with TLS only when the closing handshake has ended too (its timer is ours)."""
        return self._transport.is_closing() and (not self._tls or self._socket.fileno() < 0)

    def counts(self) -> bool:
        """Whether a reader waits for the answer to the open question."""
        if self._transport.is_closing():
            return True
        if self.question is Question.NONE:
            return False
        waiting = reader_waiting(self._transport.get_protocol())
        if self.question is Question.FIRST_DATA:
            return waiting is not False
        if not waiting and self.operation is not None:
            self.question = Question.NONE
        return bool(waiting)


class Child:
    """A subprocess: it counts while somebody waits for its end or reads its output.

    The process as a whole is the operation, so one whose patience ran out never holds again.
    """

    kind = "subprocess"

    def __init__(self, in_flight: InFlight, transport: asyncio.SubprocessTransport) -> None:
        self._transport = transport
        self._late = False
        self.operation: Operation | None = None
        self.subject: object = transport.get_pid()
        in_flight.watch(self, self)

    def over(self) -> bool:
        """Ended, and nobody waits for the rest of its output."""
        return self._transport.get_returncode() is not None and not self._somebody_waits()

    def counts(self) -> bool:
        """Whether somebody waits for it and its patience never ran out."""
        if self.operation is not None and self.operation.spent:
            self._late = True
        return not self._late and self._somebody_waits()

    def _somebody_waits(self) -> bool:
        protocol = self._transport.get_protocol()
        if not hasattr(protocol, "stdout"):  # not asyncio's: who waits cannot be seen
            return self._transport.get_returncode() is None
        readers = (protocol.stdout, getattr(protocol, "stderr", None))
        return bool(getattr(self._transport, "_exit_waiters", None)) or any(
            getattr(reader, "_waiter", None) is not None for reader in readers
        )


def reader_waiting(protocol: object) -> bool | None:
    """Whether some task waits for data from `protocol`; None where that cannot be seen."""
    if getattr(protocol, "_payload_parser", None) is not None:
        return None  # aiohttp after an upgrade: its websocket queue is compiled
    places = [path for path in _PLACES if hasattr(protocol, path[0])]
    if places:
        return any(_follow(protocol, path) for path in places)
    if getattr(type(protocol), "data_received", None) is asyncio.Protocol.data_received:
        return False  # a protocol that ignores what it receives only writes
    return None


def _follow(start: object, path: tuple[str, ...]) -> object:
    for name in path:
        start = getattr(start, name, None)
    return start


def _held(
    method: Callable[..., Any], then: Callable[[InFlight, Any], object] | None
) -> Callable[..., Any]:
    """The same method, in flight while it runs; `then` watches what it returned.

    The server's side of a TLS handshake waits for its peer to ask, and does not count.
    """

    @functools.wraps(method)
    async def call(self: WorkingLoop, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("server_side"):
            return await method(self, *args, **kwargs)
        with self.in_flight.hold(method.__name__, args[1:]):
            result = await method(self, *args, **kwargs)
        if then is not None:
            then(self.in_flight, result)
        return result

    return call


class WorkingLoop(asyncio.SelectorEventLoop):
    """An asyncio loop that notes in `in_flight` what real work its methods begin."""

    in_flight: InFlight

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        """As in asyncio; name look-ups and ``asyncio.to_thread`` come through here too."""
        future = super().run_in_executor(executor, func, *args)
        operation = self.in_flight.begin("executor job", func)
        if operation is not None:
            future.add_done_callback(lambda _: self.in_flight.end(operation))
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """As in asyncio; `timeout` (ignored before Python 3.12) is in real seconds here."""
        limit = () if timeout is None or sys.version_info < (3, 12) else (timeout,)
        with self.in_flight.hold(
            "executor shutdown", patience=math.inf if timeout is None else timeout
        ):
            await super().shutdown_default_executor(*limit)


#: The coroutine methods that count while they run, and what watches their results afterwards.
#: sock_accept and create_server are missing on purpose: a listener waits for others.
_WORK: dict[str, Callable[[InFlight, Any], object] | None] = {
    "create_connection": lambda in_flight, made: Connection(in_flight, made[0]),
    "create_unix_connection": lambda in_flight, made: Connection(in_flight, made[0]),
    "start_tls": lambda in_flight, made: made and Connection(in_flight, made),
    "subprocess_exec": lambda in_flight, made: Child(in_flight, made[0]),
    "subprocess_shell": lambda in_flight, made: Child(in_flight, made[0]),
    **dict.fromkeys(("sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into")),
    **dict.fromkeys(("sock_connect", "sock_sendall", "sock_sendto", "sock_sendfile", "sendfile")),
}
for _name, _then in _WORK.items():
    setattr(WorkingLoop, _name, _held(getattr(asyncio.SelectorEventLoop, _name), _then))
