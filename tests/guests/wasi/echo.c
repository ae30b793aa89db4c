// build: -nostdlib -fno-builtin
/* Copies stdin to stdout, byte for byte. Argument: most bytes a read (65536). Exit code 0; 3 if a
 * read failed, 4 if a write did.
 */
#include "../raw.h"

START
{
    uint32_t count = (uint32_t)argument(1, 65536), got;
    char *bytes = room(count);
    do {
        iovec v = {bytes, count};
        if (wasi_fd_read(0, &v, 1, &got))
            wasi_proc_exit(3);
        if (write_all(1, bytes, got))
            wasi_proc_exit(4);
    } while (got > 0);
    wasi_proc_exit(0);
}
