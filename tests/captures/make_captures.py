#!/usr/bin/env python3
"""Make the captures of this folder, and the truth beside each, from real programs.

    python tests/captures/make_captures.py            # all
    python tests/captures/make_captures.py ssh resets # some

Needs root on Linux: it builds network namespaces, and takes them down again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType

from lab.scenarios import CAPTURES
from lab.stage import Capture

HERE = Path(__file__).resolve().parent
PACKAGES = {
    "ip": "iproute2",
    "unshare": "util-linux",
    "hostname": "hostname",
    "ethtool": "ethtool",
    "nft": "nftables",
    "tcpdump": "tcpdump",
    "nginx": "nginx-light",
    "curl": "curl",
    "openssl": "openssl",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "aiosmtpd": "python3-aiosmtpd",
}


def short_name(capture: Capture) -> str:
    """A capture's name without its suffixes."""
    return capture.name.split(".")[0]


def missing_packages() -> list[str]:
    """The Debian packages of the programs that are not here."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    os.environ["PATH"] = path
    return [package for program, package in PACKAGES.items() if not shutil.which(program)]


def _stop(number: int, _: FrameType | None) -> None:
    """Leave by an exception, so that namespaces and servers are taken down."""
    raise SystemExit(128 + number)


def main() -> int:
    """Make the captures named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    names = [short_name(capture) for capture in CAPTURES]
    parser.add_argument("name", nargs="*", help=f"one of {', '.join(names)}")
    parser.add_argument("-o", "--output", type=Path, default=HERE, help="folder to write into")
    options = parser.parse_args()
    if unknown := set(options.name) - set(names):
        parser.error(f"no such capture: {', '.join(sorted(unknown))}")
    if packages := missing_packages():
        print(f"install first: apt-get install {' '.join(packages)}", file=sys.stderr)
        return 2
    if os.geteuid():
        print("network namespaces need root", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _stop)
    for capture in CAPTURES:
        if not options.name or short_name(capture) in options.name:
            print(capture.name, flush=True)
            capture.make(options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
