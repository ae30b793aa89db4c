# Native only: see blockpool.pxd. Nothing here is reachable from Python.
