"""Typed values between Python and exported functions, for native modules only."""
