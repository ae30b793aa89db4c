/* An agent that remembers: each run adds a note to what earlier runs left, and counts its visit.
 *
 * Input: one line, the note. Who leaves it: the first argument. Answer on stdout: which visit it
 * was, how often the memory changed under the agent's hands, and what the visitor before said.
 *
 * Its memory is two objects of its task. Any number of these agents may run at once: each change
 * is made to the version that was read, and begun again when another agent was faster.
 */
#include <spear.h>
#include <stdlib.h>
#include <string.h>

#define NOTES "notes"
#define VISITS "visits"
#define NOTE_BYTES_MAX 400
#define TRIES_MAX 10000

typedef struct {
    char *text; /* room for `len` bytes and one more line */
    uint32_t len;
    int64_t version; /* SPEAR_MUST_NOT_EXIST: there is none yet */
} memory;

static long refused; /* changes that came too late */

static void fail(const char *what, int32_t error)
{
    sp_logf(SPEAR_ERROR, "%s: error %d", what, (int)-error);
    exit(1);
}

/* What is remembered under the name now. */
static memory recall(const char *name)
{
    memory found = {NULL, 0, SPEAR_MUST_NOT_EXIST};
    int32_t got = -SPEAR_ENOSPC;
    for (uint32_t room = 4096; got == -SPEAR_ENOSPC; room = found.len) {
        found.text = realloc(found.text, room + NOTE_BYTES_MAX);
        if (found.text == NULL)
            fail("no memory for what is remembered", -SPEAR_ENOMEM);
        found.len = room;
        got = sp_object_get(name, (int32_t)strlen(name), found.text, &found.len, &found.version);
    }
    if (got == -SPEAR_ENOENT)
        found.len = 0;
    else if (got < 0)
        fail("cannot recall", got);
    return found;
}

/* Whether it is remembered now; not if another agent changed it since it was recalled. */
static int remember(const char *name, const memory *changed)
{
    int32_t put = sp_object_put(name, (int32_t)strlen(name), changed->text, (int32_t)changed->len,
                                changed->version, 0, NULL);
    if (put == -SPEAR_ESTALE || put == -SPEAR_EEXIST) {
        refused++;
        return 0;
    }
    if (put < 0)
        fail("cannot remember", put);
    return 1;
}

/* What a model's answer would take. */
static void think(void)
{
    sp_sleep_ms((int32_t)((uint64_t)sp_random_i64() % 4));
}

/* Adds one; gives the new number. */
static long count_visit(void)
{
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        memory visits = recall(VISITS);
        visits.text[visits.len] = '\0';
        long number = strtol(visits.text, NULL, 10) + 1;
        visits.len = (uint32_t)sprintf(visits.text, "%ld", number);
        think();
        int done = remember(VISITS, &visits);
        free(visits.text);
        if (done)
            return number;
    }
    fail("others are always faster", -SPEAR_EAGAIN);
    return 0;
}

/* Adds a line to the notes; gives the line before, to be freed. */
static char *leave_note(const char *line)
{
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        memory notes = recall(NOTES);
        uint32_t before = notes.len;
        notes.len += (uint32_t)sprintf(notes.text + before, "%s\n", line);
        think();
        if (remember(NOTES, &notes)) {
            if (before == 0)
                return NULL;
            notes.text[before - 1] = '\0';
            char *last = strrchr(notes.text, '\n');
            memmove(notes.text, last ? last + 1 : notes.text, before);
            return notes.text;
        }
        free(notes.text);
    }
    fail("others are always faster", -SPEAR_EAGAIN);
    return NULL;
}

int main(int argc, char **argv)
{
    char note[NOTE_BYTES_MAX / 2], line[NOTE_BYTES_MAX - 1];
    if (fgets(note, sizeof note, stdin) == NULL)
        strcpy(note, "nothing");
    note[strcspn(note, "\n")] = '\0';
    snprintf(line, sizeof line, "%.150s: %s", argc > 1 ? argv[1] : "somebody", note);

    long visit = count_visit();
    char *last = leave_note(line);
    printf("visit %ld, begun again %ld times; before me ", visit, refused);
    if (last != NULL)
        printf("%s\n", last);
    else
        printf("nobody left a note\n");
    return 0;
}
