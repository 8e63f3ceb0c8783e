"""Real work in flight: what makes the clock of a replay stand still.

One idea: a registry of *operations*. While one is open and has patience left, and some task waits,
the replay loop blocks in the real ``select``, and neither packets nor capture time move
(semantics.md 4). An operation that outlasts its patience is *spent*: counted, reported once, and it
never holds again. Operations come from two places:

* *Calls with an end of their own* (executor jobs, name look-ups, ``sock_*``, handshakes), which
  `WorkingLoop` wraps. What such a call does inside (``create_connection`` looks a name up, then
  connects) is part of it, not a second operation.
* *Watches*, judged whenever the loop is idle, because nothing tells us when a reader begins to
  wait: `Connection` for the client side of a stream, `Child` for a subprocess.

A connection has at most one open *question*, and counts while a reader waits for its answer:

* `Question.READER`: a write while no reader waits (a request, then its response). Answered when
  the reader that waited then does not wait any more at an idle moment.
* `Question.FIRST_DATA`: connecting (a greeting may come); a write while a reader waits all the
  time; a write where readers cannot be seen. Answered by the first data.

So a response in many segments holds to its end, a pooled connection holds nothing, and one that
waits for messages for ever (a subscription) costs its patience once, then nothing until it asks
again. Waiting in ``drain`` and closing count too. Waiters are seen in asyncio's streams, aiohttp
and anyio; any other protocol counts from a question to the first data (with TLS, perhaps a session
ticket). Connections that a listener accepted are not watched: there the other side asks.
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

import attrs

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_Then = Callable[["InFlight", Any], object]

_log = logging.getLogger("aiomos.replay")

#: Where the future of a waiting reader is found, as a path of attributes from the protocol:
#: asyncio's streams; aiohttp's responses and their payloads; anyio's streams.
_READERS = (
    ("_stream_reader", "_waiter"),
    ("_waiter",),
    ("_payload", "_waiter"),
    ("_payload", "_eof_waiter"),
    ("read_event", "_waiters"),
)
#: The same for writers that wait until their peer has read enough (``drain``).
_WRITERS = (("_drain_waiters",), ("_drain_waiter",), ("write_event", "_waiters"))


@attrs.define(eq=False)
class Operation:
    """One piece of real work."""

    kind: str
    what: object  # with `kind`, for the report
    patience: float  # real seconds for which it may hold the clock
    began: float = attrs.field(factory=time.monotonic)
    spent: bool = False  # its patience ran out: it does not hold any more
    done: bool = False


#: The operation that the running code is part of. Child tasks inherit it, so that the attempts of
#: a "happy eyeballs" connection belong to it. It is never reset: a done operation means none.
_enclosing: ContextVar[Operation | None] = ContextVar("aiomos_operation", default=None)


class InFlight:
    """The registry. `patience` is in real seconds, `on_begin` is called when work begins."""

    def __init__(self, patience: float, on_begin: Callable[[], None]) -> None:
        self.patience = patience
        self.on_begin = on_begin
        self.expired = 0  # operations that outlasted their patience, ever
        self._open: dict[Operation, None] = {}  # a set in order of beginning
        self._watches: dict[object, Connection | Child] = {}

    def begin(self, kind: str, what: object, patience: float | None = None) -> Operation | None:
        """Open an operation; None inside another one, of which this work is then a part."""
        outer = _enclosing.get()
        if outer is not None and not outer.done:
            return None
        operation = Operation(kind, what, self.patience if patience is None else patience)
        self._open[operation] = None
        self.on_begin()
        return operation

    def end(self, operation: Operation | None) -> None:
        """Close an operation; None and a closed one are allowed."""
        if operation is not None:
            operation.done = True
            self._open.pop(operation, None)

    @contextlib.contextmanager
    def hold(self, kind: str, what: object = "", patience: float | None = None) -> Iterator[None]:
        """Count the body as one operation (usable around any awaits, also by other libraries)."""
        operation = self.begin(kind, what, patience)
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

    def received(self, fd: int) -> None:
        """The selector says that there is something to read at `fd`."""
        if isinstance(watch := self._watches.get(fd), Connection):
            watch.received()

    def held_for(self, someone_waits: Callable[[], bool]) -> float | None:
        """For how many more real seconds the clock is held at most; None when it is free.

        To be asked after the selector was polled: complete but unprocessed work is not late.
        """
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
        self.expired += 1
        kind, what = operation.kind, reprlib.repr(operation.what)
        _log.warning(
            "%s %s takes over %g s: time goes on without it", kind, what, operation.patience
        )

    def _judge(self) -> None:
        for key, watch in list(self._watches.items()):
            if watch.over():
                self.forget(key)
            elif not watch.counts():
                self.end(watch.operation)
                watch.operation = None
            elif watch.operation is None:
                watch.operation = self.begin(watch.kind, watch.what)


class Question(enum.Enum):
    """What a connection is waiting to be told; see the table at the top."""

    NONE = enum.auto()
    FIRST_DATA = enum.auto()
    READER = enum.auto()


class Connection:
    """The client side of a stream transport.

    asyncio has no hook for writes, so the two methods that write are shadowed on the transport
    itself; with TLS on the outer one, so that a handshake record is not taken for a question.
    """

    kind = "connection to"

    def __init__(self, in_flight: InFlight, transport: asyncio.Transport) -> None:
        self._in_flight = in_flight
        self._transport = transport
        self._socket = transport.get_extra_info("socket")
        self.question = Question.FIRST_DATA
        self.operation: Operation | None = None
        self.what: object = transport.get_extra_info("peername")
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

        Further writes belong to the open question (the body of a request). But a reader that still
        waits when its operation is spent waits for ever; then the next data answer this write.
        """
        waiting = reader_waiting(self._transport.get_protocol())
        spent = self.operation is not None and self.operation.spent
        if self.question is Question.READER and waiting is not None and not spent:
            return
        if waiting is False:
            self._ask(Question.READER)
        elif self.question is not Question.FIRST_DATA:
            self._ask(Question.FIRST_DATA)

    def _ask(self, question: Question) -> None:
        self.question = question
        self._in_flight.end(self.operation)
        self.operation = None
        self._in_flight.on_begin()

    def received(self) -> None:
        """Data, or the end of the stream, has arrived."""
        if self.question is Question.FIRST_DATA:
            self.question = Question.NONE

    def over(self) -> bool:
        """Whether the socket is closed, after the last data and TLS's closing handshake."""
        return bool(self._socket.fileno() < 0)

    def counts(self) -> bool:
        """Whether a reader waits for the answer to the open question, or a writer for room."""
        protocol = self._transport.get_protocol()
        if self._transport.is_closing() or _any_waiter(protocol, _WRITERS):
            return True
        if self.question is Question.NONE:
            return False
        waiting = reader_waiting(protocol)
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
        self.operation: Operation | None = None
        self.what: object = transport.get_pid()
        in_flight.watch(self, self)

    def over(self) -> bool:
        """Ended, and nobody waits for the rest of its output."""
        return self._transport.get_returncode() is not None and not self._somebody_waits()

    def counts(self) -> bool:
        """Whether somebody waits for it; once spent it stays so, open but without effect."""
        spent = self.operation is not None and self.operation.spent
        return spent or self._somebody_waits()

    def _somebody_waits(self) -> bool:
        protocol = self._transport.get_protocol()
        if not hasattr(protocol, "stdout"):  # not asyncio's: who waits cannot be seen
            return self._transport.get_returncode() is None
        return bool(getattr(self._transport, "_exit_waiters", None)) or _any_waiter(
            protocol, (("stdout", "_waiter"), ("stderr", "_waiter"), *_WRITERS)
        )


def reader_waiting(protocol: object) -> bool | None:
    """Whether some task waits for data from `protocol`; None where that cannot be seen."""
    if getattr(protocol, "_payload_parser", None) is not None:
        return None  # aiohttp after an upgrade: its websocket queue is compiled
    if any(hasattr(protocol, path[0]) for path in _READERS):
        return _any_waiter(protocol, _READERS)
    if getattr(type(protocol), "data_received", None) is asyncio.Protocol.data_received:
        return False  # a protocol that ignores what it receives only writes
    return None


def _any_waiter(protocol: object, places: tuple[tuple[str, ...], ...]) -> bool:
    def follow(path: tuple[str, ...]) -> object:
        return functools.reduce(lambda holder, name: getattr(holder, name, None), path, protocol)

    return any(follow(path) for path in places)


def _held(method: Callable[..., Any], then: _Then | None) -> Callable[..., Any]:
    """The same method, in flight while it runs; `then` watches what it returned."""

    @functools.wraps(method)
    async def call(self: WorkingLoop, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("server_side"):  # of TLS, where it is the peer that asks
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
        future.add_done_callback(lambda _: self.in_flight.end(operation))
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """As in asyncio; `timeout` (ignored before Python 3.12) is in real seconds here."""
        limit = () if timeout is None or sys.version_info < (3, 12) else (timeout,)
        with self.in_flight.hold("executor shutdown", patience=limit[0] if limit else math.inf):
            await super().shutdown_default_executor(*limit)


#: The coroutine methods that count while they run, and what watches their results afterwards.
#: sock_accept and create_server are missing on purpose: a listener waits for others.
_WORK: dict[str, _Then | None] = {
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
