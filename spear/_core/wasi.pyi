"""The import table of module `wasi_snapshot_preview1`; see wasi.pyx."""
