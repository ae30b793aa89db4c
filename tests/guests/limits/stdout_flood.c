// build: -nostdlib -fno-builtin
/* Arguments: BYTES (1 MiB) [FD (1)] [LINE (64)]. Writes so many bytes to the descriptor, in lines
 * of LINE bytes with their newline (0: no newline at all). Exit code 0; 3 if a write failed.
 */
#include "../raw.h"

static char chunk[16384];

START
{
    int64_t left = argument(1, 1 << 20), line = argument(3, 64), at = 0;
    int32_t fd = (int32_t)argument(2, 1);
    while (left > 0) {
        uint32_t n = left < (int64_t)sizeof chunk ? (uint32_t)left : sizeof chunk;
        for (uint32_t i = 0; i < n; i++, at++)
            chunk[i] = line && at % line == line - 1 ? '\n' : (char)('a' + at % 26);
        if (write_all(fd, chunk, n))
            wasi_proc_exit(3);
        left -= n;
    }
    wasi_proc_exit(0);
}
