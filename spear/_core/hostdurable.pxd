"""The contract of durable puts; see hostdurable.pyx."""

from libc.stdint cimport int32_t, int64_t, uint64_t

from spear._core.guest cimport guest_t
from spear._core.objkeys cimport objkey_t

# Whether somebody keeps what this guest puts, and it can wait for that.
cdef bint durable_served(guest_t *guest) noexcept nogil
# -ENOSYS, and once a line in the guest's log.
cdef int32_t durable_refused(guest_t *guest) noexcept nogil
# Whether there is room for it; if not, once a line in the guest's log.
cdef bint durable_fits(guest_t *guest, const objkey_t *key, int64_t value_bytes) noexcept nogil
# Has what was put just now be kept, and waits for it: 0, or -EIO where it is in memory only.
cdef int32_t durable_kept(
    guest_t *guest, const objkey_t *key, uint64_t version) noexcept nogil
