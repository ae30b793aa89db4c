"""Bounded message queues, for native modules only; see channels.pyx and endpoints.pyi."""
