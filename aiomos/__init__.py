"""aiomos: middleboxes as easy to write as asyncio servers.

Layers, from what users read down to the wire; an arrow never turns back::

    cli -> _ownloop -> _runner -> _app -> _flow, _endpoint, _packet -> events
                           -> _engine: pump, view, task (Python objects)
                                    -> core -> tcp, udp, receive -> flow table, streams, assembler
                                                                 -> wire, timers, pools, flow key
                                                                 -> shim.pxd -> dpdk_shim/
"""

import importlib
import typing

from aiomos._app import App
from aiomos._endpoint import Endpoint
from aiomos._engine.errors import (
    AiomosError,
    AppError,
    ConfigError,
    FilterError,
    FlowError,
    FlowEvicted,
    FlowReset,
    FlowTimeout,
    GapError,
    InternalError,
    ProtocolError,
    SourceError,
    VerdictError,
)
from aiomos._engine.source import MemorySource, Source, open_files
from aiomos._engine.writer import Writer
from aiomos._flow import Flow, FlowKey
from aiomos._live import flow_tasks
from aiomos._ownloop import replay, run
from aiomos._packet import Packet
from aiomos._rules import CallNext
from aiomos._runner import Engine
from aiomos._stats import EndpointStats, FlowStats
from aiomos._summary import Summary
from aiomos._tunnel import Tunnel
from aiomos.events import (
    Anomaly,
    Chunk,
    CloseReason,
    ConnectionEnd,
    ConnectionStart,
    Datagram,
    Established,
    Event,
    EventsLost,
    FinSeen,
    Gap,
    IcmpError,
    Idle,
    Message,
    NewData,
    Orphan,
    OutOfOrder,
    Overlap,
    PacketSeen,
    ResetSeen,
    Retransmission,
    State,
    StateChange,
    TimerFired,
    WindowUpdate,
    ZeroWindow,
)

if typing.TYPE_CHECKING:
    from aiomos import dns as dns
    from aiomos import http as http
    from aiomos import rss as rss
    from aiomos import ssh as ssh
    from aiomos import tls as tls
    from aiomos._engine.interface import open_interface as open_interface

__version__ = "0.1.0"

__all__ = [
    "AiomosError",
    "Anomaly",
    "App",
    "AppError",
    "CallNext",
    "Chunk",
    "CloseReason",
    "ConfigError",
    "ConnectionEnd",
    "ConnectionStart",
    "Datagram",
    "Endpoint",
    "EndpointStats",
    "Engine",
    "Established",
    "Event",
    "EventsLost",
    "FilterError",
    "FinSeen",
    "Flow",
    "FlowError",
    "FlowEvicted",
    "FlowKey",
    "FlowReset",
    "FlowStats",
    "FlowTimeout",
    "Gap",
    "GapError",
    "IcmpError",
    "Idle",
    "InternalError",
    "MemorySource",
    "Message",
    "NewData",
    "Orphan",
    "OutOfOrder",
    "Overlap",
    "Packet",
    "PacketSeen",
    "ProtocolError",
    "ResetSeen",
    "Retransmission",
    "Source",
    "SourceError",
    "State",
    "StateChange",
    "Summary",
    "TimerFired",
    "Tunnel",
    "VerdictError",
    "WindowUpdate",
    "Writer",
    "ZeroWindow",
    "flow_tasks",
    "open_files",
    "open_interface",
    "replay",
    "run",
]

#: Imported when somebody asks for them: most programs never do, and some bring parsers.
_LATER = frozenset({"dns", "http", "rss", "ssh", "tls"})


def __getattr__(name: str) -> typing.Any:
    if name == "open_interface":
        from aiomos._engine.interface import open_interface

        return open_interface
    if name in _LATER:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
