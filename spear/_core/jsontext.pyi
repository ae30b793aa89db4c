"""JSON written natively, for native modules only; see jsontext.pyx."""
