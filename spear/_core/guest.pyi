"""The guest record, for native modules only; see guest.pxd."""
