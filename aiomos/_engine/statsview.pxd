"""Extended statistics as Python reads them."""
from aiomos._engine.flow cimport Flow

# Those of one end by the names of aiomos/_stats.py, times in seconds; None: nobody asked for them.
cdef dict end_stats(const Flow *f, int side)
