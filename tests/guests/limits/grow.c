// build: -nostdlib -fno-builtin
/* Grows its memory page by page, writing to each, until it is refused. Prints how many pages it
 * had then; exit code 0 if refused, 1 if it reached the argument's number of pages (65536).
 */
#include "../raw.h"

START
{
    uint32_t pages_max = (uint32_t)argument(1, 65536), pages = __builtin_wasm_memory_size(0);
    while (pages < pages_max && __builtin_wasm_memory_grow(0, 1) != (size_t)-1)
        *(volatile char *)(pages++ * 65536) = 1;
    print_number(pages);
    print("\n");
    wasi_proc_exit(pages >= pages_max);
}
