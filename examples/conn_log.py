"""One line for each connection when it ends: who, how long, bytes each way, trouble, why it ended.

aiomos run examples/conn_log.py -r capture.pcap
"""

from collections import Counter
from collections.abc import AsyncIterator

import aiomos

app = aiomos.App()
reasons: Counter[str] = Counter()


@app.on(aiomos.Retransmission, aiomos.Gap, aiomos.ZeroWindow, aiomos.ResetSeen)
def note(flow: aiomos.Flow, event: aiomos.Event, packet: aiomos.Packet | None) -> None:
    """Counts trouble as it happens, in the context that a flow's functions share."""
    if flow.context is None:
        flow.context = Counter()
    flow.context[type(event).__name__] += 1


@app.on(aiomos.ConnectionEnd)
def log(flow: aiomos.Flow, event: aiomos.ConnectionEnd, packet: aiomos.Packet | None) -> None:
    client, server = flow.client, flow.server
    trouble = " ".join(f"{kind}={n}" for kind, n in sorted((flow.context or {}).items()))
    print(
        f"{flow.start:.6f} {flow.duration:9.6f} s {flow.protocol} "
        f"{client.address}:{client.port} > {server.address}:{server.port} "
        f"{client.received}/{server.received} B {event.reason} {trouble}".rstrip()
    )
    reasons[str(event.reason)] += 1


@app.lifespan
async def summary(app: aiomos.App) -> AsyncIterator[None]:
    yield
    print(", ".join(f"{n} {reason}" for reason, n in reasons.most_common()))
