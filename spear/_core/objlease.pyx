# cython: language_level=3
"""What a run's guests may reach of an object store; see objlease.pxd.

Rule: holds, decides nothing.
"""


cdef class Lease:
    """A store, a task's own namespace and the namespaces granted to it."""
