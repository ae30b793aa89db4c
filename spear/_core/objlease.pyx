# cython: language_level=3
"""What a run's guests may reach of an object store; see objlease.pxd.

Rule: holds, decides nothing; lets go only when the run that keeps it does. The collector may not
clear it before: in a cycle with its run it would take the store from under a living guest.
"""

cimport cython


@cython.final
@cython.no_gc_clear
cdef class Lease:
    """A store, a task's own namespace and the namespaces granted to it."""
