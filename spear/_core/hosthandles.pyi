"""Native only; see hosthandles.pxd."""
