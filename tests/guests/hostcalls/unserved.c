// build: -nostdlib -fno-builtin
/* Calls every import of the ABI that is not served yet: 9. Prints a line
 * "name answer" for each; the exit code is the number of answers that are not -ENOSYS.
 */
#define SPEAR_NO_STDIO
#include <spear.h>
#include "../raw.h"

static char out[64];
static uint32_t len;
static int served;

static void report(const char *name, int32_t answer)
{
    print(name);
    print(" ");
    print_number(answer);
    print("\n");
    served += answer != -SPEAR_ENOSYS;
}

#define CALL(name, ...) (len = 0, report(#name, sp_##name(__VA_ARGS__)))

START
{
    CALL(rtasr_create);
    CALL(rtasr_ctl, 1000, SPEAR_RTASR_CONNECT, out, &len);
    CALL(rtasr_write, 1000, out, 2);
    CALL(rtasr_read, 1000, out, &len);
    CALL(rtasr_close, 1000);
    CALL(mic_create);
    CALL(mic_ctl, 1000, SPEAR_MIC_GET_STATUS, out, &len);
    CALL(mic_read, 1000, out, &len);
    CALL(mic_close, 1000);
    wasi_proc_exit(served);
}
