/* Finds passages by their meaning. Each paragraph of its input is embedded and kept in the object
 * store with its vector; each argument is a question, answered with the nearest passages.
 */
#include <math.h>
#include <spear.h>
#include <spear_json.h>

enum { DIMENSIONS_MAX = 4096, PASSAGE_BYTES = 4096, NEAREST = 2 };
enum { PASSAGES_MAX = 10000, KEY_BYTES = SPEAR_KEY_BYTES_MAX + 1 };

/* An object's value: this, `dimensions` floats, the passage without a NUL. */
typedef struct { uint32_t dimensions, text_len; } Head;
typedef struct { float score; char text[PASSAGE_BYTES]; } Found;

static char paragraph[PASSAGE_BYTES];
static float vector[DIMENSIONS_MAX], other[DIMENSIONS_MAX];
static char value[sizeof(Head) + sizeof vector + PASSAGE_BYTES];

static int fail(const char *what, int32_t status)
{
    fprintf(stderr, "%s: error %d\n", what, (int)-status);
    exit(1);
}

/* The text's vector goes into `vector`; gives its dimensions. */
static uint32_t embed(const char *text)
{
    char *quoted = sp_json_quote(text), *body = NULL;
    char *request = malloc(strlen(quoted) + 16);
    int32_t len = (int32_t)sprintf(request, "{\"input\":%s}", quoted);
    int32_t response = sp_embed_send(request, len, 0);
    if (response < 0 || sp_cchat_recv_alloc(response, &body) < 0)
        fail("cannot embed", response);
    sp_cchat_close(response);
    const char *at = sp_json_find(body, "embedding");
    uint32_t dimensions = 0;
    if (at == NULL || *at != '[') {
        fprintf(stderr, "cannot embed: %s\n", body);
        exit(1);
    }
    for (char *end; dimensions < DIMENSIONS_MAX; at = end) {
        float number = strtof(at + 1, &end);
        if (end == at + 1 || (*end != ',' && *end != ']'))
            break;
        vector[dimensions++] = number;
    }
    free(quoted);
    free(request);
    free(body);
    return dimensions;
}

/* Keeps a passage under a number. */
static void learn(const char *text, int number)
{
    char key[KEY_BYTES];
    Head head = {.dimensions = embed(text), .text_len = (uint32_t)strlen(text)};
    size_t vector_bytes = head.dimensions * sizeof vector[0];
    memcpy(value, &head, sizeof head);
    memcpy(value + sizeof head, vector, vector_bytes);
    memcpy(value + sizeof head + vector_bytes, text, head.text_len);
    int key_len = snprintf(key, sizeof key, "passage/%06d", number);
    int32_t size = (int32_t)(sizeof head + vector_bytes + head.text_len);
    int32_t status = sp_object_put(key, key_len, value, size, SPEAR_ANY_VERSION, 0, NULL);
    if (status < 0)
        fail("cannot keep a passage", status);
}

/* Paragraphs end at an empty line; what is longer than PASSAGE_BYTES becomes several. */
static int learn_all(void)
{
    char line[1024];
    int count = 0;
    for (int more = 1; more;) {
        more = fgets(line, sizeof line, stdin) != NULL;
        int empty = !more || line[strspn(line, " \t\r\n")] == '\0';
        if (paragraph[0] != '\0'
            && (empty || strlen(paragraph) + strlen(line) + 1 >= sizeof paragraph)) {
            learn(paragraph, count++);
            paragraph[0] = '\0';
        }
        line[strcspn(line, "\r\n")] = '\0';
        if (!empty && paragraph[0] != '\0')
            strcat(paragraph, " ");
        if (!empty)
            strcat(paragraph, line);
    }
    return count;
}

/* The cosine of the angle to the question: 1 is the same direction. */
static float likeness(const float *left, const float *right, uint32_t dimensions)
{
    float product = 0, left_square = 0, right_square = 0;
    for (uint32_t i = 0; i < dimensions; i++) {
        product += left[i] * right[i];
        left_square += left[i] * left[i];
        right_square += right[i] * right[i];
    }
    float lengths = sqrtf(left_square) * sqrtf(right_square);
    return lengths > 0 ? product / lengths : 0;
}

/* Compares one kept passage with the question, and sorts it in. */
static void compare(const char *key, uint32_t dimensions, Found *best)
{
    uint32_t len = sizeof value;
    Head head;
    int32_t size = sp_object_get(key, sp_text_len(key), value, &len, NULL);
    if (size < (int32_t)sizeof head)
        return; /* it went meanwhile */
    memcpy(&head, value, sizeof head);
    if (head.dimensions != dimensions || head.text_len >= PASSAGE_BYTES
        || sizeof head + dimensions * sizeof other[0] + head.text_len != (size_t)size)
        return; /* of another model */
    memcpy(other, value + sizeof head, dimensions * sizeof other[0]);
    float score = likeness(vector, other, dimensions);
    if (score <= best[NEAREST - 1].score)
        return;
    int at = NEAREST - 1;
    for (; at > 0 && score > best[at - 1].score; at--)
        best[at] = best[at - 1];
    best[at].score = score;
    memcpy(best[at].text, value + size - head.text_len, head.text_len);
    best[at].text[head.text_len] = '\0';
}

/* The stored passages as a JSON array, to be free()d. */
static char *list_passages(void)
{
    static const char prefix[] = "passage/";
    uint32_t room = 64 * 1024;
    for (;;) {
        uint32_t len = room;
        char *listing = malloc(room + 1);
        if (listing == NULL)
            fail("cannot list the passages", -SPEAR_ENOMEM);
        int32_t size = sp_object_list(prefix, sizeof prefix - 1, "", 0, PASSAGES_MAX, listing, &len);
        if (size >= 0) {
            listing[size] = '\0';
            return listing;
        }
        free(listing);
        if (size != -SPEAR_ENOSPC)
            fail("cannot list the passages", size);
        room = len;
    }
}

static void answer(const char *question)
{
    static Found best[NEAREST];
    char *listing = list_passages();
    uint32_t dimensions = embed(question);
    memset(best, 0, sizeof best);
    for (const char *at = listing; (at = sp_json_find(at, "key")) != NULL;) {
        char key[KEY_BYTES];
        int len = (int)strcspn(++at, "\"");
        if (len < KEY_BYTES) {
            snprintf(key, sizeof key, "%.*s", len, at);
            compare(key, dimensions, best);
        }
        at += len + 1;
    }
    free(listing);
    printf("%s\n", question);
    for (int i = 0; i < NEAREST && best[i].score > 0; i++)
        printf("  %.2f  %s\n", (double)best[i].score, best[i].text);
}

int main(int argc, char **argv)
{
    int learnt = learn_all();
    if (learnt > 0)
        sp_logf(SPEAR_INFO, "%d passages learnt", learnt);
    for (int i = 1; i < argc; i++)
        answer(argv[i]);
    return 0;
}
