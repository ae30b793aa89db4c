"""Frames from a socket and to it; see socketframes.pyx."""
