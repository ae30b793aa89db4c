"""The hostcall spear_fd_ctl, for native modules only; see hostfdctl.pyx."""
