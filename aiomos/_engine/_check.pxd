"""What must be true of a core between two frames: looked at by the fuzz target and by tests."""
from aiomos._engine.state cimport CoreState

# The first thing that is not as it must be, in words; NULL: all is well. Linear in what the
# core holds. To be called when records have been consumed and the burst has ended.
cdef const char *check_core(CoreState *cs) noexcept nogil
