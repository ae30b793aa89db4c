"""Native only; see hostdurable.pxd."""
