"""Sides that hold more than their readers' limit: cut once the handlers had their turn."""
from aiomos._engine.core cimport Core
from aiomos._engine.endpoint cimport EndpointBase


cdef class OverLimit:
    cdef Core core
    cdef list sides                     # endpoints over their limit since the last judgement

    cdef int judge_all(self) except -1
    cdef int judge(self, EndpointBase e) except -1
