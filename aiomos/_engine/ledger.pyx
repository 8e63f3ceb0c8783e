"""Written by the process that counts, read by its supervisor; see ledger.pxd."""
import mmap
import os
from typing import NamedTuple

from libc.string cimport memcpy, memset

from aiomos._engine import names
from aiomos._engine.errors import SourceError

cdef extern from *:
    """
    #include <stdint.h>
    static inline void aio_ledger_turn(uint64_t *turn, uint64_t to)
    {
        __atomic_store_n(turn, to, __ATOMIC_RELEASE); /* behind what it stands for */
    }
    """
    void aio_ledger_turn(uint64_t *turn, uint64_t to) noexcept nogil


class Noted(NamedTuple):
    """What a process had counted when it was last asked, or died."""

    filtered: int
    handler_errors: int
    distributed: int
    counters: dict[str, int]


Noted.filtered.__doc__ = "Frames that did not pass ``-f``."
Noted.handler_errors.__doc__ = "Functions of the app that raised."
Noted.distributed.__doc__ = "Frames that a distributor gave to workers."
Noted.counters.__doc__ = "As Core.counters() names them."


cdef class Ledger:
    """Made by :meth:`create`; another process inherits its descriptor and :meth:`attach`es it."""

    def __init__(self):
        raise TypeError("a Ledger is made by Ledger.create() or Ledger.attach()")

    @staticmethod
    def create() -> Ledger:
        """A new one; its descriptor is its own. Raises SourceError without memory."""
        try:
            fd = os.memfd_create("aiomos-ledger", os.MFD_CLOEXEC)
            os.ftruncate(fd, sizeof(LedgerBook))
        except OSError as error:
            raise SourceError(f"no memory for what workers count: {error.strerror}") from error
        return Ledger.attach(fd)

    @staticmethod
    def attach(int fd) -> Ledger:
        """The one behind a descriptor."""
        cdef Ledger self = Ledger.__new__(Ledger)
        cdef uint8_t[::1] view
        self.fd = fd
        self.memory = mmap.mmap(fd, sizeof(LedgerBook))
        view = self.memory
        self.book = <LedgerBook *>&view[0]
        return self

    cdef void note(self, const CoreState *cs, uint64_t filtered,
                   uint64_t handler_errors) noexcept nogil:
        """All that an engine has counted."""
        cdef uint64_t turn = self.book.turn + 1
        cdef LedgerPage *page = &self.book.pages[turn & 1]
        page.filtered = filtered
        page.handler_errors = handler_errors
        page.frames = cs.frames
        page.bytes = cs.bytes
        page.clock_steps_back = cs.clock.steps_back
        page.clock_jumps = cs.clock.jumps
        memcpy(page.counters, cs.counters, sizeof(page.counters))
        memcpy(page.by_status, cs.by_status, sizeof(page.by_status))
        memcpy(page.defrag, cs.defrag.counters, sizeof(page.defrag))
        aio_ledger_turn(&self.book.turn, turn)

    cdef void note_distributed(self, uint64_t frames) noexcept nogil:
        """Of a distributor, which counts nothing else."""
        cdef uint64_t turn = self.book.turn + 1
        self.book.pages[turn & 1].distributed = frames
        aio_ledger_turn(&self.book.turn, turn)

    def read(self):
        """What was noted last; None: nothing was. For when who writes is gone."""
        cdef const LedgerPage *page = &self.book.pages[self.book.turn & 1]
        if self.book.turn == 0:
            return None
        counters = {name: page.counters[i] for i, name in enumerate(names.COUNTERS)}
        counters.update({name: page.by_status[i] for i, name in enumerate(names.STATUSES)})
        counters.update({name: page.defrag[i] for i, name in enumerate(names.DEFRAG)})
        counters |= {"frames": page.frames, "bytes": page.bytes,
                     "clock_steps_back": page.clock_steps_back, "clock_jumps": page.clock_jumps}
        return Noted(page.filtered, page.handler_errors, page.distributed, counters)

    def clear(self):
        """Nothing is noted: for the next process."""
        memset(self.book, 0, sizeof(LedgerBook))

    def close(self):
        """Closes the descriptor; the memory goes with the object. May be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1
