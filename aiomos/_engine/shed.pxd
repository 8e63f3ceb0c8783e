"""What gives way when a bound is reached: order, and what it costs, in one place.

A table of flows that is full takes another only by giving one up. Memory that runs short is
relieved in steps, from what is missed least to what is missed most: history, fragments,
handshakes, slow readers, idle flows; and then new flows are refused, if that is the policy.
Everything here is bounded work, and every step has its counter (docs/limits.md).
"""
from aiomos._engine.state cimport CoreState
from aiomos._engine.wire cimport Packet

cdef enum:
    SHED_LOOKS = 32           # flows of a list looked at to find one that is idle
    SHED_CANDIDATES = 16      # idle ones among which the choice is
    SHED_PROMOTIONS = 128     # flows that turn out to be proven, moved to their list on the way
    SHED_CROWD = 4            # a quarter of the table is a crowd
    SHED_FLOWS = 64           # given up in one step of relief
    SHED_DATAGRAMS = 1024     # given up in one step of relief
    SHED_SIDES = 1024         # entries walked in one step of relief
    SHED_LEAST = 4096         # bytes a side must hold to be worth cutting

# What to do with a flow that meets a full table: CoreConfig.on_flows_full and the like.
cdef enum:
    FULL_EVICT = 0
    FULL_REFUSE = 1

# Makes room for the flow of a packet; False: it is refused, and counted.
cdef bint shed_admit(CoreState *cs, const Packet *p) noexcept nogil
# Between bursts, while memory is short (Pool.tight).
cdef void shed_relieve(CoreState *cs) noexcept nogil
