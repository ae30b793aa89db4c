"""The shim, by which a guest's send calls its own tools: native only; see shim.pyx."""
