"""The deterministic world that guests may live in, for native modules only; see world.pyx."""
