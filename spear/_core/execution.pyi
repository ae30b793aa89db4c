"""One guest's way through the engine, for native modules only; see execution.pyx."""
