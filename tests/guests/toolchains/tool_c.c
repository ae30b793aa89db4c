// build: -Oz -s
/* One guest of a C toolchain with all of its library: argv[1] says what to do; see
 * tests/integration/test_toolchains.py for what must come out.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CHECK(holds) \
    do { \
        if (!(holds)) { \
            printf("line %d: %s\n", __LINE__, strerror(errno)); \
            exit(1); \
        } \
    } while (0)

static int upper(void)
{
    int letter;
    while ((letter = getchar()) != EOF)
        putchar(letter >= 'a' && letter <= 'z' ? letter - 32 : letter);
    return 0;
}

static int passes(void)
{
    struct timespec before, after, wanted = {0, 2000000};
    CHECK(clock_gettime(CLOCK_MONOTONIC, &before) == 0);
    CHECK(nanosleep(&wanted, NULL) == 0);
    CHECK(poll(NULL, 0, 1) == 0);
    CHECK(clock_gettime(CLOCK_MONOTONIC, &after) == 0);
    CHECK((after.tv_sec - before.tv_sec) * 1000000000LL + after.tv_nsec - before.tv_nsec >= 3000000);
    CHECK(time(NULL) > 1700000000);
    puts("time passed");
    return 0;
}

static int differs(void)
{
    char one[16] = "", other[16] = "";
    CHECK(getentropy(one, sizeof one) == 0 && getentropy(other, sizeof other) == 0);
    CHECK(memcmp(one, other, sizeof one) != 0);
    puts("random");
    return 0;
}

static int compare(const void *one, const void *other)
{
    return strcmp(*(char *const *)one, *(char *const *)other);
}

static void list(const char *path)
{
    char *names[16];
    size_t count = 0;
    DIR *folder = opendir(path);
    CHECK(folder != NULL);
    for (struct dirent *entry; count < 16 && (entry = readdir(folder)) != NULL;)
        if (entry->d_name[0] != '.')
            names[count++] = strdup(entry->d_name);
    closedir(folder);
    qsort(names, count, sizeof *names, compare);
    for (size_t at = 0; at < count; at++)
        printf("%s%s", at ? " " : "", names[at]);
    putchar('\n');
}

static int files(void)
{
    char line[64];
    struct stat found;
    CHECK(mkdir("/data/made", 0777) == 0);
    FILE *file = fopen("/data/made/one", "w+");
    CHECK(file != NULL);
    CHECK(fprintf(file, "first line\nsecond line\n") > 0 && fseek(file, 6, SEEK_SET) == 0);
    CHECK(fgets(line, sizeof line, file) != NULL && strcmp(line, "line\n") == 0);
    CHECK(fclose(file) == 0);
    CHECK(stat("/data/made/one", &found) == 0 && found.st_size == 23 && S_ISREG(found.st_mode));
    CHECK(rename("/data/made/one", "/data/made/two") == 0);
    CHECK(symlink("two", "/data/made/link") == 0);
    CHECK(readlink("/data/made/link", line, sizeof line) == 3);
    CHECK(link("/data/made/two", "/data/made/three") == 0);
    int fd = open("/data/made/link", O_RDWR | O_APPEND);
    CHECK(fd >= 0 && write(fd, "third\n", 6) == 6 && fsync(fd) == 0);
    CHECK(ftruncate(fd, 11) == 0 && lseek(fd, 0, SEEK_END) == 11 && close(fd) == 0);
    list("/data/made");
    CHECK(unlink("/data/made/link") == 0 && unlink("/data/made/two") == 0);
    CHECK(rmdir("/data/made") != 0 && errno == ENOTEMPTY);
    CHECK(open("/data/../secret", O_RDONLY) < 0);
    CHECK(open("/read/given", O_WRONLY) < 0 && errno == EROFS);
    CHECK((file = fopen("/read/given", "r")) != NULL && fgets(line, sizeof line, file) != NULL);
    fputs(line, stdout);
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "hello";
    if (strcmp(what, "hello") == 0)
        return puts("hello from C") < 0;
    if (strcmp(what, "args") == 0)
        return printf("%d %s\n", argc, argv[argc - 1]) < 0;
    if (strcmp(what, "env") == 0)
        return puts(getenv("NAME")) < 0;
    if (strcmp(what, "exit") == 0)
        return atoi(argv[2]);
    if (strcmp(what, "stdin") == 0)
        return upper();
    if (strcmp(what, "sleep") == 0)
        return passes();
    if (strcmp(what, "random") == 0)
        return differs();
    return files();
}
