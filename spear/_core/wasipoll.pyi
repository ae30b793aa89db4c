"""WASI's clocks and waiting, for native modules only; see wasipoll.pyx."""
