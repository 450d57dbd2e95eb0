/* guest/work/match.c - regular expressions by backtracking: literals, ".", "[a-z]", "*", "+", "?", "^", "$". */
#include "guest/work/work.h"

static bool match_here(const char *pattern, const char *text);

/* Does the pattern's first item take the character? @next: behind the item. */
static bool match_one(const char *pattern, char c, const char **next)
{
    bool is_in = false;

    if (*pattern != '[') {
        *next = pattern + 1;
        return c != '\0' && (*pattern == '.' || *pattern == c);
    }
    for (pattern++; *pattern != ']'; pattern++) {
        if (pattern[1] == '-') {
            is_in = is_in || (pattern[0] <= c && c <= pattern[2]);
            pattern += 2;
        } else {
            is_in = is_in || *pattern == c;
        }
    }
    *next = pattern + 1;
    return c != '\0' && is_in;
}

/* The longest repetition first. */
static bool match_many(const char *item, const char *rest, const char *text, bool needs_one)
{
    const char *end = text, *next;

    while (match_one(item, *end, &next)) {
        end++;
    }
    for (; end >= text + needs_one; end--) {
        if (match_here(rest, end)) {
            return true;
        }
    }
    return false;
}

static bool match_here(const char *pattern, const char *text)
{
    const char *next;
    bool is_in;

    if (*pattern == '\0') {
        return true;
    }
    if (*pattern == '$' && pattern[1] == '\0') {
        return *text == '\0';
    }
    is_in = match_one(pattern, *text, &next);
    switch (*next) {
    case '*':
    case '+':
        return match_many(pattern, next + 1, text, *next == '+');
    case '?':
        return (is_in && match_here(next + 1, text + 1)) || match_here(next + 1, text);
    default:
        return is_in && match_here(next, text + 1);
    }
}

/* Where it matches first, or -1. */
static long match(const char *pattern, const char *text)
{
    if (*pattern == '^') {
        return match_here(pattern + 1, text) ? 0 : -1;
    }
    for (long at = 0;; at++) {
        if (match_here(pattern, text + at)) {
            return at;
        }
        if (text[at] == '\0') {
            return -1;
        }
    }
}

uint64_t work_match(uint64_t rounds)
{
    static const char *const patterns[] = {
        "a[b-e]*f",      "^[a-d]+e?f*g",   "gfe.*abc$",
        "a.*b.*c.*d.*e", "h[ace]?h[^x]*$", "[a-c][d-f][g-h]+a",
    };
    const size_t length = 120;
    char *text = heap_new(length + 1);
    uint64_t state = 2024, sum = 0;

    work_require(match("^a*b+c?$", "aabb") == 0 && match("b[0-9]d", "abcdb7d") == 4 &&
                     match("x+", "abc") == -1,
                 "plain patterns");
    rounds *= 40;
    while (rounds-- > 0) {
        for (size_t i = 0; i < length; i++) {
            text[i] = (char)('a' + random_next(&state) % 8);
        }
        text[length - random_next(&state) % 40] = '\0';
        for (unsigned i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
            sum = fold(sum, (uint64_t)match(patterns[i], text));
        }
    }
    heap_free(text);
    return sum;
}
