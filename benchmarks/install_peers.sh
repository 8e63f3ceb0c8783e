#!/bin/sh
# Installs what aiomos is compared with, on Debian: system packages (as root), and PyPI packages
# into the Python named by $PYTHON (default: python3). Run it inside the project's environment.
set -eu

apt-get install --yes --no-install-recommends \
    gcc make pkg-config libnids-dev libpcap-dev valgrind \
    golang-go golang-github-google-gopacket-dev golang-golang-x-net-dev golang-golang-x-sys-dev

"${PYTHON:-python3}" -m pip install dpkt scapy nfstream uvloop

make -C "$(dirname "$0")/peers"
