"""Hostcalls of user streams, for native modules only; see hoststreams.pyx."""
