"""The import table of module `spear`; see hostabi.pyx."""

from spear._core.imports cimport import_table

cdef import_table hostabi_table() noexcept nogil
