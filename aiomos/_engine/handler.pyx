"""A handler of an app, as the engine needs it; see handler.pxd."""


cdef class Handler:
    """A handler of an app with its options as numbers; see App.tcp for what they mean."""

    def __init__(self, function, name, protocol, start, sides, on_gap, limit, on_full, policy=0,
                 by_prefix=False):
        self.function = function
        self.name = name
        self.protocol = protocol
        self.start = start
        self.sides = sides
        self.on_gap = on_gap
        self.limit = limit
        self.on_full = on_full
        self.policy = policy
        self.by_prefix = by_prefix
