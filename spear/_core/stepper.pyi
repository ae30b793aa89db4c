"""How a deterministic world goes on, for native modules only; see stepper.pyx."""
