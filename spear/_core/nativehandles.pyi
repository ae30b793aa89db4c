"""Native only; see nativehandles.pxd."""
