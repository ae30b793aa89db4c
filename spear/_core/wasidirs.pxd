"""WASI's calls on directories; see wasidirs.pyx."""

from spear._core.wasibits cimport wasi_row_t

# Adds their rows to the import table.
cdef void wasi_dir_rows(wasi_row_t row) noexcept
