"""Log every HTTP/1 transaction with the number of bytes that a gap cost, and go on behind gaps.

aiomos run examples/http_transactions.py -r tests/captures/http_demo.pcap
"""

import aiomos
import aiomos.http  # here, so that no handler waits for it

app = aiomos.App()


@app.tcp("port 80 or port 8080", on_gap="skip")
async def log_transactions(flow: aiomos.Flow) -> None:
    async for pair in aiomos.http.transactions(flow, body_limit=0):
        request, response = pair.request, pair.response
        if request is None or response is None:
            print(flow.client.address, "unanswered" if request else "unasked", request or response)
            continue
        took = (response.end_time - request.end_time) * 1e3
        agent = request.headers.get("User-Agent", "-")
        print(
            f"{flow.client.address:<15} {response.status} {response.body_size:>7} B {took:>9.3f} ms"
            f"  {request.method} {request.target} {agent} skipped={response.skipped}"
        )
        if pair.upgraded:
            print(f"{flow.client.address:<15} goes on with another protocol")
