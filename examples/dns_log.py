"""Log every DNS query with its answers and the time they took, over UDP and TCP.

aiomos run examples/dns_log.py -r tests/captures/dns.pcap
"""

import aiomos
import aiomos.dns  # here, so that no handler waits for it

app = aiomos.App()


@app.udp("port 53")
@app.tcp("port 53", on_gap="skip")
async def log_queries(flow: aiomos.Flow) -> None:
    async for item in aiomos.dns.exchanges(flow):
        if isinstance(item, aiomos.dns.Malformed):
            print(f"{flow.client.address:<15} {item.error}")
            continue
        took = "-" if item.seconds is None else f"{item.seconds * 1e3:.3f} ms"
        answers = [] if item.response is None else item.response.message.answer
        found = "; ".join(str(record) for record in answers).replace("\n", "; ")
        print(f"{flow.client.address:<15} {took:>12}  {item.rdtype:<6} {item.name}  {found}")
