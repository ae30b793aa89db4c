// build rest_small: -nostdlib -fno-builtin
// build rest_large: -nostdlib -fno-builtin -Wl,-z,stack-size=16777216
/* Touches three 4 KiB pages as touch.c does (stack, data, zeroed data), then waits for ever.
 * Built twice: with a stack of 64 KiB, and with the linker's default of 16 MiB, which lies first.
 */
__attribute__((import_module("spear"), import_name("sleep_ms"))) void sleep_ms(int ms);

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
    sleep_ms(-1);
}
