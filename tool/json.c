/* json.c - making and printing JSON documents. */
#include "json.h"

#include "tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(bool good)
{
    if (!good) {
        tool_error("out of memory");
        exit(TOOL_FAILED);
    }
}

static struct json_object *checked(struct json_object *object)
{
    check(object != NULL);
    return object;
}

struct json_object *json_new_object(void)
{
    return checked(json_object_new_object());
}

struct json_object *json_new_array(void)
{
    return checked(json_object_new_array());
}

struct json_object *json_new_number(uint64_t value)
{
    return checked(json_object_new_uint64(value));
}

struct json_object *json_new_signed(int64_t value)
{
    return checked(json_object_new_int64(value));
}

struct json_object *json_new_bool(bool value)
{
    return checked(json_object_new_boolean(value));
}

struct json_object *json_new_hex(gm_size_t value)
{
    char digits[TOOL_HEX_BYTES];
    char text[TOOL_HEX_BYTES + 2];

    snprintf(text, sizeof(text), "0x%s", tool_hex(value, digits));
    return checked(json_object_new_string(text));
}

/* Bytes of the UTF-8 character at @text (Unicode 15, table 3-7), or 0 if there is none. */
static size_t utf8_length(const unsigned char *text)
{
    unsigned char low = 0x80;
    unsigned char high = 0xbf;
    size_t length;
    size_t i;

    if (text[0] < 0x80) {
        return 1;
    }
    if (text[0] < 0xc2 || text[0] > 0xf4) {
        return 0;
    }
    length = text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;
    switch (text[0]) { /* neither overlong forms, nor surrogates, nor past U+10FFFF */
    case 0xe0:
        low = 0xa0;
        break;
    case 0xed:
        high = 0x9f;
        break;
    case 0xf0:
        low = 0x90;
        break;
    case 0xf4:
        high = 0x8f;
        break;
    default:
        break;
    }
    if (text[1] < low || text[1] > high) {
        return 0;
    }
    for (i = 2; i < length; i++) {
        if (text[i] < 0x80 || text[i] > 0xbf) {
            return 0;
        }
    }
    return length;
}

struct json_object *json_new_text(const char *text)
{
    const unsigned char *from = (const unsigned char *)text;
    char *valid = tool_alloc(3 * strlen(text) + 1);
    size_t used = 0;
    struct json_object *object;

    while (*from != '\0') {
        size_t length = utf8_length(from);

        if (length == 0) {
            memcpy(valid + used, "\xef\xbf\xbd", 3);
            used += 3;
            from++;
        } else {
            memcpy(valid + used, from, length);
            used += length;
            from += length;
        }
    }
    valid[used] = '\0';
    object = checked(json_object_new_string(valid));
    free(valid);
    return object;
}

void json_add(struct json_object *object, const char *key, struct json_object *value)
{
    check(json_object_object_add_ex(object, key, value,
                                    JSON_C_OBJECT_ADD_KEY_IS_NEW | JSON_C_OBJECT_KEY_IS_CONSTANT) ==
          0);
}

void json_append(struct json_object *array, struct json_object *value)
{
    check(json_object_array_add(array, value) == 0);
}

int json_print(struct json_object *object)
{
    const char *text = json_object_to_json_string_ext(
        object, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE);

    check(text != NULL);
    puts(text);
    json_object_put(object);
    return tool_finish_output();
}
