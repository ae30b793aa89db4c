"""Hostcalls of epoll, for native modules only; see hostfds.pyx."""
