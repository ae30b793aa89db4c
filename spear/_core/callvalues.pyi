"""Native only; see callvalues.pxd."""
