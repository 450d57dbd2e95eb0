/*
 * json.h - JSON output: thin constructors over json-c that cannot fail: no memory ends the tool.
 *
 * Addresses, sizes and offsets are strings, "0x" and hexadecimal: they have 64 bits and more, and
 * many readers of JSON keep 53. NULL stands for null.
 */
#ifndef TOOL_JSON_H
#define TOOL_JSON_H

#include <guestmem/types.h>

#include <json-c/json.h>

struct json_object *json_new_object(void);
struct json_object *json_new_array(void);
struct json_object *json_new_number(uint64_t value);
struct json_object *json_new_signed(int64_t value);
struct json_object *json_new_bool(bool value);
struct json_object *json_new_hex(gm_size_t value);

/* A string. Bytes that are not UTF-8 become U+FFFD: names come from files and hold anything. */
struct json_object *json_new_text(const char *text);

/* Give @value to an object, under a key that is a literal; or to an array. */
void json_add(struct json_object *object, const char *key, struct json_object *value);
void json_append(struct json_object *array, struct json_object *value);

/* Print a document on stdout and free it. Return: as tool_finish_output(). */
int json_print(struct json_object *object);

#endif
