/* An agent that reads its whole input and answers something computed from it.
 *
 * Input: text on stdin. Who asks: the first argument, else the environment's NAME.
 * Answer on stdout: lines, words, bytes and the word that occurs most (the first one, of equals).
 */
#include <spear.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct word {
    char *text;
    size_t count;
    size_t first; /* which word of the text it was, for ties */
};

static int failed(const char *why)
{
    sp_log_str(SPEAR_ERROR, why);
    return 1;
}

/* All of stdin, NUL-terminated; NULL if memory ends first. */
static char *read_all(FILE *from, size_t *size)
{
    size_t room = 4096;
    char *text = malloc(room);
    *size = 0;
    while (text != NULL) {
        *size += fread(text + *size, 1, room - *size - 1, from);
        if (*size < room - 1) {
            text[*size] = '\0';
            return text;
        }
        room *= 2;
        char *more = realloc(text, room);
        if (more == NULL)
            free(text);
        text = more;
    }
    return NULL;
}

static int by_text(const void *a, const void *b)
{
    const struct word *x = a, *y = b;
    int order = strcmp(x->text, y->text);
    return order != 0 ? order : (x->first > y->first) - (x->first < y->first);
}

/* A letter, a digit, an apostrophe, or any byte of a character beyond ASCII. */
static int in_word(unsigned char c)
{
    return isalnum(c) || c == '\'' || c >= 0x80;
}

/* Cuts the text into lower-case words, in place; gives their number, or -1 without memory. */
static long cut_words(char *text, size_t size, struct word **words)
{
    long count = 0, room = 0;
    *words = NULL;
    for (size_t i = 0; i < size;) {
        if (!in_word((unsigned char)text[i])) {
            i++;
            continue;
        }
        if (count == room) {
            room = room ? room * 2 : 256;
            struct word *more = realloc(*words, (size_t)room * sizeof **words);
            if (more == NULL)
                return -1;
            *words = more;
        }
        (*words)[count] = (struct word){text + i, 1, (size_t)count};
        count++;
        for (; i < size && in_word((unsigned char)text[i]); i++)
            text[i] = (char)tolower((unsigned char)text[i]);
        text[i++] = '\0'; /* inside the buffer: it ends with a NUL of its own */
    }
    return count;
}

/* The most frequent of the words, which it sorts. */
static struct word most_frequent(struct word *words, long count)
{
    struct word best = {"", 0, 0};
    qsort(words, (size_t)count, sizeof *words, by_text);
    for (long start = 0, end; start < count; start = end) {
        for (end = start; end < count && strcmp(words[end].text, words[start].text) == 0;)
            end++;
        size_t times = (size_t)(end - start);
        if (times > best.count || (times == best.count && words[start].first < best.first))
            best = (struct word){words[start].text, times, words[start].first};
    }
    return best;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : getenv("NAME");
    size_t size, lines = 0;
    char *text = read_all(stdin, &size);
    if (text == NULL)
        return failed("the input does not fit into memory");
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    lines += size > 0 && text[size - 1] != '\n';

    struct word *words;
    long count = cut_words(text, size, &words);
    if (count < 0)
        return failed("the words do not fit into memory");
    struct word best = most_frequent(words, count);
    sp_logf(SPEAR_INFO, "read %zu bytes", size);

    printf("Dear %s,\n", name != NULL && *name ? name : "friend");
    printf("your text has %zu line%s, %ld word%s and %zu byte%s.\n",
           lines, lines == 1 ? "" : "s", count, count == 1 ? "" : "s", size, size == 1 ? "" : "s");
    if (best.count > 0)
        printf("The most frequent word is \"%s\": %zu time%s.\n",
               best.text, best.count, best.count == 1 ? "" : "s");
    else
        printf("There is no word in it.\n");
    return 0;
}
