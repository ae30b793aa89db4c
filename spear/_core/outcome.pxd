"""Python objects made from guest records; see outcome.pyx."""

from spear._core.guest cimport guest_t, log_entry

cdef str cause_name(int cause)
cdef object line_of(const log_entry *entry)
# Whether it ended well.
cdef bint completed(guest_t *guest) noexcept
# What it used, onto the attributes of a record that are named like those of an outcome.
cdef int fill_record(guest_t *guest, record) except -1
# `limits` is (timeout in ns, output bytes), `reason` why it was cancelled.
cdef object outcome_of(guest_t *guest, str reason, limits)
