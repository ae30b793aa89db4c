// build touch_small: -nostdlib -fno-builtin
// build touch_large: -nostdlib -fno-builtin -Wl,-z,stack-size=16777216
/* Touches three 4 KiB pages (stack, data, zeroed data) and returns: no imports.
 * Built twice: with a stack of 64 KiB, and with the linker's default of 16 MiB, which lies first,
 * so that the touched pages are at the end of 257 pages or more.
 */
static volatile char data[4] = {1};
static volatile char zeroed[65536];

__attribute__((noinline)) static int touch_stack(int value)
{
    volatile int local = value;
    return local + 1;
}

__attribute__((export_name("_start"))) void _start(void)
{
    data[0] = (char)touch_stack(data[0]);
    zeroed[32768] = data[0];
}
