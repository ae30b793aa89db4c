"""Native only; see keptbodies.pxd."""
