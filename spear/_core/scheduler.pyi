"""The native half of the executor, for native modules only; see scheduler.pyx."""
