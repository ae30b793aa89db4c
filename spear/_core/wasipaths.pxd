"""WASI's calls on paths; see wasipaths.pyx."""

from spear._core.wasibits cimport wasi_row_t

# Adds their rows to the import table.
cdef void wasi_path_rows(wasi_row_t row) noexcept
