"""The descriptor table of a guest, for native modules only; see descriptors.pyx."""
