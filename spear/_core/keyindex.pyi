# Native only: see keyindex.pxd. Nothing here is reachable from Python.
