"""What the hooks of the test suite say of a pool."""
from aiomos._engine.pool cimport Pool

cdef dict pool_counts(const Pool *pool)
