"""Module `spear_trial`, for tests and benchmarks: its operation codes; see trial.pyx."""

ECHO: int  # echo(ptr, len, out_ptr, out_len_ptr): handler args (bytes, room)
ADD: int  # add(i32, i32): (int, int)
PAUSE: int  # pause(): ()
CONTROL: int  # control(fd, cmd, arg_ptr, arg_len_ptr): (int, int, bytes)
MIXED: int  # mixed(i32, i64, ptr, len, ptr, len): (int, int, bytes, bytes)
SEND: int  # send(fd, flags), which may call the guest's tools: (int, int)
BYTES_MAX: int  # of the bytes in of one call
