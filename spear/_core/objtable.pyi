# Native only: see objtable.pxd. Nothing here is reachable from Python.
