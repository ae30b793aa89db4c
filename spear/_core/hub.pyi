"""The native half of a completion hub, for native modules only; see hub.pyx."""
