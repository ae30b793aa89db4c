// build: -nostdlib -fno-builtin
/* Prints "arg VALUE" for each argument, argv[0] first, and "env NAME=VALUE" for each variable. */
#include "../raw.h"

static void list(const char *what, char **items, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        print(what);
        print(items[i]);
        print("\n");
    }
}

START
{
    uint32_t count, bytes;
    char **items = arguments(&count);
    list("arg ", items, count);
    if (wasi_environ_sizes_get(&count, &bytes))
        wasi_proc_exit(98);
    items = room(count * 4 + bytes);
    if (wasi_environ_get(items, (char *)(items + count)))
        wasi_proc_exit(98);
    list("env ", items, count);
}
