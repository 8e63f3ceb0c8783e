#!/usr/bin/env python3
"""Make dns.pcap: dig asks dnsmasq, over UDP and TCP, in a network namespace of its own.

    python tests/captures/make_dns.py

Needs root on Linux, and the Debian packages dnsmasq-base, bind9-dnsutils, tcpdump and util-linux.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

TARGET = Path(__file__).resolve().parent / "dns.pcap"
LONG = ",".join(["x" * 200] * 20)
SERVER = [
    *("dnsmasq", "--no-daemon", "--no-hosts", "--no-resolv", "--bind-interfaces", "--user=root"),
    *("--listen-address=127.0.0.1", "--listen-address=::1", "--edns-packet-max=1232"),
    *("--address=/www.example.test/192.0.2.20", "--address=/www.example.test/2001:db8::20"),
    *("--mx-host=example.test,mail.example.test,10", "--cname=web.example.test,www.example.test"),
    *("--txt-record=short.example.test,hello world", f"--txt-record=long.example.test,{LONG}"),
    *("--local=/example.test/", "--host-record=www.example.test,192.0.2.20,2001:db8::20"),
]
QUESTIONS = [
    *("www.example.test A", "www.example.test AAAA", "WWW.Example.TEST A", "web.example.test A"),
    *("example.test MX", "short.example.test TXT", "nowhere.example.test A"),
    *("www.elsewhere.test A", "long.example.test TXT", "www.example.test A +tcp"),
    *("short.example.test TXT +tcp", "www.example.test A @::1", "-x 192.0.2.20"),
    "www.example.test A +noedns +norecurse",
]


def main() -> None:
    """Enters a namespace, then plays and captures."""
    if "--inside" not in sys.argv:
        command = ["unshare", "--net", sys.executable, __file__, "--inside"]
        raise SystemExit(subprocess.run(command, check=False).returncode)
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    tap = subprocess.Popen(["tcpdump", "-i", "lo", "-U", "-w", TARGET, "port", "53"])
    server = subprocess.Popen(SERVER)
    time.sleep(1)
    for question in QUESTIONS:
        at = [] if "@" in question else ["@127.0.0.1"]
        subprocess.run(["dig", "+tries=1", "+time=2", *at, *question.split()], check=True)
    time.sleep(0.5)
    for process in (server, tap):
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
