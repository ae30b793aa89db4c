"""The contract of folder watches; see folderwatch.pyx."""


cdef class FolderWatch:
    cdef int fd  # -1: the system watches no folder for us

    cpdef close(self)
