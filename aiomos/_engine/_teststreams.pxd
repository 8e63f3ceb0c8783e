"""Streams as the hooks of the test suite read them."""
from libc.stdint cimport uint64_t

from aiomos._engine.stream cimport Cursor

cdef list read_all(Cursor *c, list into, uint64_t most)
