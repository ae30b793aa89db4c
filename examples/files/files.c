/* An agent that sees the directories it was granted and nothing else.
 *
 * It lists the directory that its argument names, then tries what was not granted: to write into
 * it, and to read beside it.
 */
#include <spear.h>
#include <dirent.h>
#include <errno.h>
#include <string.h>

static int list(const char *path)
{
    DIR *dir = opendir(path);
    if (dir == NULL) {
        printf("%s: %s\n", path, strerror(errno));
        return 1;
    }
    int files = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        files += entry->d_name[0] != '.';
    closedir(dir);
    printf("%s has %d entries\n", path, files);
    return 0;
}

static void attempt(const char *what, const char *path, const char *mode)
{
    FILE *file = fopen(path, mode);
    printf("%s %s: %s\n", what, path, file != NULL ? "done" : strerror(errno));
    if (file != NULL)
        fclose(file);
}

int main(int argc, char **argv)
{
    const char *granted = argc > 1 ? argv[1] : "/data";
    char beneath[512], beside[512];
    snprintf(beneath, sizeof beneath, "%s/written-by-an-agent", granted);
    snprintf(beside, sizeof beside, "%s/../README.md", granted);
    int failed = list(granted);
    attempt("write", beneath, "w");
    attempt("read", beside, "r");
    attempt("read", "/etc/passwd", "r");
    return failed;
}
