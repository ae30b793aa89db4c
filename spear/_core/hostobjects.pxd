"""The contract of the object calls of guests; see hostobjects.pyx. All goes through `lend`."""
