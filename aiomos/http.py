"""HTTP/1 on the streams of a flow: requests, responses, and which answers which.

Heads are parsed by httptools (llhttp, the parser of Node.js): ``pip install 'aiomos[http]'``.

>>> import aiomos
>>> app = aiomos.App()
>>> @app.tcp("port 80")
... async def log(flow: aiomos.Flow) -> None:
...     async for transaction in aiomos.http.transactions(flow):
...         print(transaction.request, transaction.response)

**Gaps.** A gap inside a body is passed by its length, and the message's ``missing`` counts it.
Behind any other gap the reader goes on at the next beginning of a message, whose ``skipped`` says
how many bytes were passed over. ``on_gap`` is the endpoint's own unless it is given: ``"raise"``
raises :class:`GapError` once, and iterating again goes on behind it; ``"yield"`` gives
:class:`Gap` objects among the messages; ``"skip"`` only counts.

**Bad input.** What is no HTTP/1 raises :class:`ProtocolError` with the stream offset at which the
message begins; iterating again looks for the next message, as behind a gap. Reset, timeout and
eviction of a flow raise what reading raises.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal, overload

from aiomos._endpoint import Endpoint
from aiomos._flow import Flow
from aiomos._httphead import Headers
from aiomos._httpmessage import Message, OnLimit, Request, Requests, Response, Responses
from aiomos._httppair import Transaction, Transactions
from aiomos._streaming import GapMode, gap_mode
from aiomos.events import Gap

__all__ = [
    "Headers",
    "Message",
    "Request",
    "Response",
    "Transaction",
    "requests",
    "responses",
    "transactions",
]

#: Longest head of a message, in bytes.
HEAD_LIMIT = 65536


@overload
def requests(
    end: Endpoint, *, on_gap: Literal["raise", "skip"] | None = None, head_limit: int = HEAD_LIMIT
) -> AsyncIterator[Request]: ...
@overload
def requests(
    end: Endpoint, *, on_gap: Literal["yield"], head_limit: int = HEAD_LIMIT
) -> AsyncIterator[Request | Gap]: ...
def requests(
    end: Endpoint, *, on_gap: GapMode | None = None, head_limit: int = HEAD_LIMIT
) -> AsyncIterator[Request | Gap] | AsyncIterator[Request]:
    """Requests of a client as they come: each when its head is whole, its body still to be read.

    Behind CONNECT, or Upgrade, whose answer is not seen here, iteration ends unless what follows
    looks like a request; the endpoint then stands at the other protocol's first byte.

    Args:
        end: ``flow.client``.
        on_gap: as ``@app.tcp`` has it; None: as the endpoint is configured.
        head_limit: longest head, in bytes.

    Raises:
        ProtocolError: what follows is no HTTP/1 request; see above.
        GapError: bytes are missing here; see above.
    """
    return Requests(end, gap_mode(end, on_gap), head_limit)


@overload
def responses(
    end: Endpoint, *, on_gap: Literal["raise", "skip"] | None = None, head_limit: int = HEAD_LIMIT
) -> AsyncIterator[Response]: ...
@overload
def responses(
    end: Endpoint, *, on_gap: Literal["yield"], head_limit: int = HEAD_LIMIT
) -> AsyncIterator[Response | Gap]: ...
def responses(
    end: Endpoint, *, on_gap: GapMode | None = None, head_limit: int = HEAD_LIMIT
) -> AsyncIterator[Response | Gap] | AsyncIterator[Response]:
    """Responses of a server as they come, interim ones (1xx) included.

    Without the requests, two things can only be told from what follows: a response to HEAD has
    no body whatever its length says (taken for one when the next response begins at once), and
    an accepted CONNECT is a body up to the end. :func:`transactions` knows both.

    Args:
        end: ``flow.server``.
        on_gap: as ``@app.tcp`` has it; None: as the endpoint is configured.
        head_limit: longest head, in bytes.

    Raises:
        ProtocolError: what follows is no HTTP/1 response; see above.
        GapError: bytes are missing here; see above.
    """
    return Responses(end, gap_mode(end, on_gap), head_limit)


@overload
def transactions(
    flow: Flow,
    *,
    on_gap: Literal["raise", "skip"] | None = None,
    head_limit: int = HEAD_LIMIT,
    body_limit: int = HEAD_LIMIT,
    on_limit: OnLimit = "truncate",
) -> AsyncIterator[Transaction]: ...
@overload
def transactions(
    flow: Flow,
    *,
    on_gap: Literal["yield"],
    head_limit: int = HEAD_LIMIT,
    body_limit: int = HEAD_LIMIT,
    on_limit: OnLimit = "truncate",
) -> AsyncIterator[Transaction | Gap]: ...
def transactions(
    flow: Flow,
    *,
    on_gap: GapMode | None = None,
    head_limit: int = HEAD_LIMIT,
    body_limit: int = HEAD_LIMIT,
    on_limit: OnLimit = "truncate",
) -> AsyncIterator[Transaction | Gap] | AsyncIterator[Transaction]:
    """Requests with the responses to them, each pair when its response has ended.

    Pipelined requests are answered in their order (RFC 9112 section 9.3.2). Iteration ends with
    the flow, or behind the transaction that turned the connection over to another protocol.

    A request is read to its end before its response: a server that answers while the client
    is still sending needs ``limit=`` of ``@app.tcp`` as large as what it answers until then.

    Args:
        flow: a TCP flow, both of whose sides the handler reads.
        on_gap: as ``@app.tcp`` has it; None: as ``flow.client`` is configured.
        head_limit: longest head, in bytes.
        body_limit: bytes kept of a body; 0 keeps none.
        on_limit: of a longer body, keep the beginning and count the rest (``"truncate"``), or
            raise :class:`asyncio.LimitOverrunError`; see :meth:`Message.read`.

    Raises:
        ProtocolError: what follows is no HTTP/1; see above.
        GapError: bytes are missing here; see above.
    """
    mode = gap_mode(flow.client, on_gap)
    return Transactions(flow, mode, head_limit, body_limit, on_limit)
