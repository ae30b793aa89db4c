"""Native only; see hostchat.pxd."""
