"""Reads one plain chunk of an answer, for native modules only; see plainchunk.pyx."""
