"""The names that guests give to objects, for native modules only; see objkeys.pyx."""
