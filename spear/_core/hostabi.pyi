"""The import table of module `spear`, for native modules only; see hostabi.pyx."""
