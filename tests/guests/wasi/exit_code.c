// build: -nostdlib -fno-builtin
/* Ends by proc_exit with its argument (0), never by returning. */
#include "../raw.h"

START
{
    wasi_proc_exit((int32_t)argument(1, 0));
}
