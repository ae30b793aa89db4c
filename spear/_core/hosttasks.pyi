"""Native only; see hosttasks.pxd."""
