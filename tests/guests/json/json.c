// build:
/* Shows what spear_json.h makes of its input:
 *   json find KEY   the value's first 40 bytes     json text KEY   the text
 *   json int KEY    the number, else -1            json quote      the input as a JSON string
 * Exits with 1 where there is no such value.
 */
#include <spear.h>
#include <spear_json.h>

static char input[1 << 15];

int main(int argc, char **argv)
{
    const char *key = argc > 2 ? argv[2] : "", *found;
    char *text;
    input[fread(input, 1, sizeof input - 1, stdin)] = '\0';
    switch (argc > 1 ? argv[1][0] : 0) {
    case 'f':
        found = sp_json_find(input, key);
        if (found != NULL)
            printf("%.40s", found);
        return found == NULL;
    case 'i':
        printf("%lld", (long long)sp_json_int(input, key, -1));
        return 0;
    case 't': text = sp_json_text(input, key); break;
    case 'q': text = sp_json_quote(input); break;
    default: return 2;
    }
    if (text != NULL)
        fputs(text, stdout);
    free(text);
    return text == NULL;
}
