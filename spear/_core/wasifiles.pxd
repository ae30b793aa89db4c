"""WASI's calls on descriptors; see wasifiles.pyx."""

from libc.stdint cimport int32_t, uint64_t

from spear._core.filetable cimport file_t
from spear._core.guest cimport guest_t
from spear._core.wasibits cimport wasi_row_t

# Adds their rows to the import table.
cdef void wasi_file_rows(wasi_row_t row) noexcept

# The descriptor that a call is about, if it is of `kind` and has `right`; else NULL and the error.
cdef file_t *wasi_file_for(
    guest_t *guest, int32_t fd, int kind, uint64_t right, int32_t *error) noexcept nogil
# For poll_oneoff: an error number, and how many bytes can be read or written at once.
cdef int32_t wasi_file_ready(
    guest_t *guest, int32_t fd, bint reading, uint64_t *bytes) noexcept nogil
