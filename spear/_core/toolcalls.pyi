"""How one call of a guest's tool lies in the guest's arena; see toolcalls.pyx."""

def arena_plan(
    arena_at: int, arena_size: int, args_size: int, out_max: int
) -> tuple[int, int, int, int] | int:
    """(args_ptr, out_ptr, out_cap, out_len_ptr), or the error, a negated number of the ABI."""
