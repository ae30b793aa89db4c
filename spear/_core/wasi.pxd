"""The import table of module `wasi_snapshot_preview1`; see wasi.pyx."""

from spear._core.imports cimport import_table

cdef import_table wasi_table() noexcept nogil
