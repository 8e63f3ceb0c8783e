"""Receive-side scaling: the hash by which ports, kernel sockets and workers share out flows.

The Toeplitz hash with the 16-bit key 0x6d5a repeated, over addresses and ports in the order of
Microsoft's definition ("RSS hashing types"). A key that repeats every 16 bits makes it symmetric
(Woo and Park, "Scalable TCP session monitoring with symmetric receive-side scaling", 2012), and
makes it a function of the exclusive or of all 16-bit words of its input; both halves of the 32
bits are then the same, so 16 are computed. aiomos/rss.py has the same in plain Python.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from aiomos._engine.be cimport be32
from aiomos._engine.wire cimport Packet

cdef enum:
    RSS_KEY = 0x6D5A
    RSS_TABLE = 128           # entries of the table from hash to worker (a NIC's "RETA")

cdef inline uint16_t rss_hash(uint16_t folded) noexcept nogil:
    """Of the exclusive or of all words: the key, turned to where each bit stands."""
    cdef uint32_t key = RSS_KEY | <uint32_t>RSS_KEY << 16
    cdef uint32_t found = 0
    cdef int bit
    for bit in range(16):
        found ^= (key >> (16 - bit)) & -<uint32_t>(folded >> (15 - bit) & 1)
    return <uint16_t>found

cdef inline uint16_t rss_fold_addresses(const Packet *p) noexcept nogil:
    cdef uint32_t words
    cdef int i
    if p.ip_version == 4:
        words = be32(p.ip + 12) ^ be32(p.ip + 16)
    else:
        words = 0
        for i in range(8):
            words ^= be32(p.ip + 8 + 4 * i)
    return <uint16_t>(words ^ words >> 16)

# What is hashed of a TCP or UDP packet: addresses and ports. Of fragments, and what has no
# ports, it is the addresses alone.
cdef inline uint16_t rss_fold(const Packet *p) noexcept nogil:
    return rss_fold_addresses(p) ^ p.sport ^ p.dport
