"""The contract of sealing; see sealing.pyx."""

cpdef bytes seal(bytes key, bytes value)
