"""Tells event loops which runs have ended, for native modules only; see completions.pyx."""
