// build: -Wl,-z,stack-size=16777216
/* The shape of a guest built without a thought for the stack: 257 pages, libc with printf. */
#include <spear.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    sp_log_str(SPEAR_INFO, "a large guest");
    printf("%s with %d argument%s\n", argv[0], argc - 1, argc == 2 ? "" : "s");
    return 0;
}
