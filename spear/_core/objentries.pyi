# Native only: see objentries.pxd. Nothing here is reachable from Python.
