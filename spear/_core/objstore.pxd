"""The contract of the object store for native code.

Rule: `store.table` is used with the functions of `objtable`, by any thread, with or without the
GIL, for as long as the caller keeps a reference to the ObjectStore.
"""

from spear._core.objentries cimport Moment
from spear._core.objviews cimport TableOwner


cdef class ObjectStore(TableOwner):
    cdef Moment _now(self) except *
