"""Native only; see innerwaits.pxd."""
