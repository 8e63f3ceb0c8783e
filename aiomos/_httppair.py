"""Requests of a connection with the responses to them."""

from __future__ import annotations

from collections import deque
from typing import NoReturn, Self

import attrs

from aiomos._engine.errors import FlowError, GapError
from aiomos._flow import Flow
from aiomos._httpmessage import OnLimit, Request, Requests, Response, Responses
from aiomos._streaming import GapMode
from aiomos.events import Gap


@attrs.frozen(eq=False)
class Transaction:
    """A request and the response to it, both with their bodies.

    Attributes:
        request: None: it was not seen.
        response: the final response; None: it was not seen, or never came.
        interim: responses of status 100 to 199 before it.
        upgraded: another protocol follows on this connection: 101, or CONNECT accepted. Both
            ends then stand at that protocol's first byte.
        guessed: a gap came before, and the two were paired by their times, or one of them is
            missing for that reason.
    """

    request: Request | None
    response: Response | None
    interim: tuple[Response, ...] = ()
    upgraded: bool = False
    guessed: bool = False


class Transactions:
    """Transactions of a flow; see :func:`aiomos.http.transactions`.

    A step that is cut short by an exception is begun again by the next one, from what is kept
    here: the message at work, and requests that wait for their response.
    """

    def __init__(
        self, flow: Flow, mode: GapMode, head_limit: int, body_limit: int, on_limit: OnLimit
    ) -> None:
        inner: GapMode = "skip" if mode == "skip" else "raise"
        self._flow = flow
        self._mode = mode
        self._bounds = body_limit, on_limit
        self._requests = Requests(flow.client, inner, head_limit)
        self._responses = Responses(flow.server, inner, head_limit)
        self._request: Request | None = None
        self._head: Response | None = None
        self._response: Transaction | None = None
        self._interim: list[Response] = []
        self._waiting: deque[Request] = deque()
        self._ready: deque[Transaction] = deque()
        self._ended = {"client": False, "server": False}
        self._failure: FlowError | None = None

    @property
    def skipped(self) -> tuple[int, int]:
        """Bytes of client and server between messages, never seen or not understood."""
        return self._requests.skipped, self._responses.skipped

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Transaction | Gap:
        side = "client"
        try:
            while not self._ready:
                if all(self._ended.values()) and not self._waiting:
                    self._over()
                side = "client"
                if not self._waiting and not self._ended["client"] and not self._server_first():
                    await self._next_request()
                side = "server"
                if self._waiting or self._ended["client"] or self._server_first():
                    await self._next_response()
        except GapError as error:
            if self._mode != "yield":
                raise
            return Gap(error.offset, error.length, error.cause, side=side)
        found = self._ready.popleft()
        if found.upgraded:
            self._ended = {"client": True, "server": True}
        return found

    def _over(self) -> NoReturn:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        raise StopAsyncIteration

    def _server_first(self) -> bool:
        """Picked up in its middle, with a response under way: its request was not seen."""
        if self._response is not None or self._head is not None:
            return True
        client, server = self._flow.client, self._flow.server
        return bool(server.buffered and not client.buffered and not client.syn_seen)

    # -- requests --

    async def _next_request(self) -> None:
        """One more request into the queue; or the client has ended."""
        try:
            if self._request is None:
                self._request = await self._requests._next_head()
                if self._request is not None:
                    self._requests._begin_body(self._request)
            if self._request is not None:
                await self._request.read(*self._bounds)
        except GapError:
            raise
        except FlowError as error:
            self._fail("client", error)
        if self._request is None:
            self._ended["client"] = True
            return
        self._waiting.append(self._request)
        self._request = None

    def _fail(self, side: str, error: FlowError) -> None:
        """Reset, timeout or eviction: what is there is given first."""
        self._ended[side] = True
        self._failure = error

    # -- responses --

    async def _next_response(self) -> None:
        """The next response, with the request that it answers; or the server has ended."""
        try:
            if self._response is None:
                await self._next_final_response()
            if self._response is not None:
                assert self._response.response is not None
                await self._response.response.read(*self._bounds)
        except GapError:
            raise
        except FlowError as error:
            self._fail("server", error)
        if self._response is not None:
            self._ready.append(self._response)
            self._response = None
        elif self._ended["server"]:
            self._give_unanswered()

    async def _next_final_response(self) -> None:
        head = await self._final_head()
        if head is None:
            self._ended["server"] = True
            return
        request, guessed = await self._answered(head)
        self._responses._begin_answer(head, request.method if request else None)
        upgraded = head.status == 101 or (
            request is not None and request.method == "CONNECT" and 200 <= head.status < 300
        )
        interim, self._interim, self._head = tuple(self._interim), [], None
        self._response = Transaction(request, head, interim, upgraded, guessed)

    async def _final_head(self) -> Response | None:
        """Head of the next response that is no interim one; None at the end."""
        if self._head is None and self._expects_answers():
            while (head := await self._responses._next_head()) is not None:
                if head.status >= 200 or head.status == 101:
                    self._head = head
                    break
                self._responses._begin_answer(head, None)
                self._interim.append(head)
        return self._head

    def _expects_answers(self) -> bool:
        """False: this side is not in the capture; waiting for it would fill up the other."""
        return self._flow.server.seen or not self._flow.is_established

    async def _answered(self, response: Response) -> tuple[Request | None, bool]:
        """The request that a response answers, taken from the queue; whether that is a guess.

        In order, one response a request. Behind a gap, of either side, the times decide: the
        newest request that was sent before the response began. Bytes behind a gap carry the
        time at which waiting for the gap ended, so that is a guess; the next pair is none.
        """
        first = self._waiting[0] if self._waiting else None
        if not response.skipped and not (first and first.skipped):
            return (self._waiting.popleft() if first else None), False
        await self._read_ahead(response.time)
        sent = [r for r in self._waiting if r.time <= response.time]
        for _request in sent:
            self._waiting.popleft()
        self._ready.extend(Transaction(request, None, guessed=True) for request in sent[:-1])
        return (sent[-1] if sent else None), True

    async def _read_ahead(self, time: float) -> None:
        """Brings requests that were sent up to a time into the queue, as far as they are here."""
        while self._flow.client.buffered and not self._ended["client"]:
            if self._waiting and self._waiting[-1].time > time:
                return
            await self._next_request()

    def _give_unanswered(self) -> None:
        self._ready.extend(Transaction(r, None) for r in self._waiting)
        self._waiting.clear()
