"""Calls that Python answers: native only; see post.pyx."""
