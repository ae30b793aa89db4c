"""Fills guest records from what Python gives, for native modules only; see filling.pyx."""
