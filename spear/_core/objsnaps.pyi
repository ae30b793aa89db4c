# Native only: see objsnaps.pxd. Nothing here is reachable from Python.
