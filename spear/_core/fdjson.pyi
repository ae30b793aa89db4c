"""The JSON of spear_fd_ctl, for native modules only; see fdjson.pyx."""
