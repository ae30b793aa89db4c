/* spear_json.h: just enough JSON for a guest: a value by its key, and text into JSON.
 *
 * Rule: these find a key, they check no document. The first "key" that is followed by a colon is
 * taken, at whatever depth; text inside of strings is never taken for a key. So they fit documents
 * of a known shape, such as a response of sp_cchat_recv or a tool's arguments.
 */
#ifndef SPEAR_JSON_H
#define SPEAR_JSON_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Where the value of the key begins, or NULL. The key has no quotes and no escapes in it. */
static inline const char *sp_json_find(const char *json, const char *key)
{
    size_t len = strlen(key);
    for (const char *at = json; (at = strchr(at, '"')) != NULL; at++) {
        const char *name = ++at;
        while (*at != '"' && *at != '\0')
            at += at[0] == '\\' && at[1] != '\0' ? 2 : 1;
        if (*at == '\0')
            return NULL;
        if ((size_t)(at - name) != len || memcmp(name, key, len) != 0)
            continue;
        const char *value = at + 1 + strspn(at + 1, " \t\r\n");
        if (*value == ':')
            return value + 1 + strspn(value + 1, " \t\r\n");
    }
    return NULL;
}

/* A whole number, or `otherwise` where there is none. */
static inline int64_t sp_json_int(const char *json, const char *key, int64_t otherwise)
{
    const char *value = sp_json_find(json, key);
    if (value == NULL || (*value != '-' && (*value < '0' || *value > '9')))
        return otherwise;
    return strtoll(value, NULL, 10);
}

/* The four digits behind \u, or -1. */
static inline int32_t sp_json_hex(const char *at)
{
    int32_t code = 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f'
            ? (c | 32) - 'a' + 10 : -1;
        if (digit < 0)
            return -1;
        code = code * 16 + digit;
    }
    return code;
}

/* Writes a character as UTF-8; gives what is behind it. */
static inline char *sp_json_utf8(char *out, int32_t code)
{
    int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned char lead[] = {0, 0xc0, 0xe0, 0xf0};
    *out++ = (char)(lead[more] | (code >> (6 * more)));
    while (more-- > 0)
        *out++ = (char)(0x80 | ((code >> (6 * more)) & 0x3f));
    return out;
}

/* Writes the character of an escape, *at being behind its backslash, and moves *at behind it. A
 * surrogate alone becomes U+FFFD, as does a NUL, which would end the text. */
static inline char *sp_json_escape(const char **at, char *out)
{
    static const char plain[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    const char *found = strchr(plain, **at);
    if (**at == '\0')
        return out;
    int32_t code = *(*at)++ == 'u' ? sp_json_hex(*at) : -1;
    if (code < 0) {
        if (found != NULL)
            *out++ = means[found - plain];
        return out;
    }
    *at += 4;
    if (code >= 0xd800 && code < 0xdc00 && (*at)[0] == '\\' && (*at)[1] == 'u') {
        int32_t low = sp_json_hex(*at + 2);
        if (low >= 0xdc00 && low < 0xe000) {
            *at += 6;
            return sp_json_utf8(out, 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00));
        }
    }
    return sp_json_utf8(out, code == 0 || (code >= 0xd800 && code < 0xe000) ? 0xfffd : code);
}

/* The text of a key, without its escapes, NUL-terminated, to be free()d; NULL where its value is no
 * text, there is none, or there is no memory. */
static inline char *sp_json_text(const char *json, const char *key)
{
    const char *at = sp_json_find(json, key);
    if (at == NULL || *at++ != '"')
        return NULL;
    char *text = (char *)malloc(strlen(at) + 1), *out = text;
    if (text == NULL)
        return NULL;
    while (*at != '"' && *at != '\0') {
        if (*at != '\\')
            *out++ = *at++;
        else if (at++, *at != '\0')
            out = sp_json_escape(&at, out);
    }
    *out = '\0';
    return text;
}

/* The text as a JSON string with its quotes, NUL-terminated, to be free()d; NULL: no memory. */
static inline char *sp_json_quote(const char *text)
{
    static const char digits[] = "0123456789abcdef";
    char *json = (char *)malloc(strlen(text) * 6 + 3), *out = json;
    if (json == NULL)
        return NULL;
    *out++ = '"';
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            *out++ = '\\';
            *out++ = (char)c;
        } else if (c < 0x20) {
            memcpy(out, "\\u00", 4);
            out[4] = digits[c >> 4];
            out[5] = digits[c & 15];
            out += 6;
        } else {
            *out++ = (char)c;
        }
    }
    *out++ = '"';
    *out = '\0';
    return json;
}

#endif
