"""Who asks for which name over TLS, with what software: SNI, ALPN, versions, JA3 and JA4.

aiomos run examples/tls_names.py -r tests/captures/http_demo.pcap
"""

import asyncio

import aiomos
import aiomos.tls

app = aiomos.App()


@app.tcp("port 443 or port 8443", sides="both")
async def log_names(flow: aiomos.Flow) -> None:
    try:
        hello = await aiomos.tls.client_hello(flow.client)
        answer = await aiomos.tls.server_hello(flow.server)
    except (aiomos.ProtocolError, asyncio.IncompleteReadError) as error:
        print(f"{flow.client.address:<15} no TLS: {error}")
        return
    finally:
        flow.bypass()  # nothing more is asked of this connection
    print(
        f"{flow.client.address:<15} {hello.server_name} {','.join(hello.alpn)}"
        f" {answer.version_name} {hello.ja4} {hello.ja3} {answer.ja3s}"
    )
