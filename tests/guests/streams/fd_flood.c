// build: -nostdlib -fno-builtin
/* Opens and closes descriptors until the host gives no more, and prints how many there were and the
 * error; with an argument it closes none. Then checks that the first and the last are still known.
 */
#define SPEAR_NO_STDIO
#include <spear.h>
#include "../raw.h"

START
{
    int32_t keep = (int32_t)argument(1, 0), fd, last = 0, count = 0;
    while ((fd = sp_epoll_create()) >= 0) {
        last = fd;
        count++;
        if (!keep)
            expect("close", sp_epoll_close(fd), 0);
    }
    expect("first", sp_epoll_close(1000), 0);
    expect("last", sp_epoll_close(last), 0);
    expect("beyond", sp_epoll_close(last + 1), -SPEAR_EBADF);
    print_number(count);
    print(" ");
    print_number(last);
    print(" ");
    print_number(fd);
    wasi_proc_exit(failed_checks);
}
