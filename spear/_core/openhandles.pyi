"""Native only; see openhandles.pxd."""
