/* trace_own.c - reading the lines of `guestmem kvm --trace`; docs/trace-format.md has them. */
#include "trace.h"

#include "tool.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct trace_own {
    struct trace_map vms; /* by process and number; the item is the event's number, plus 1 */
    uint32_t vm_count;
    uint64_t run_us; /* where the times of this run begin: at the end of the run before */
    uint64_t last_us;
};

/* What stands before a call's result, gathered field by field. */
struct fields {
    uint64_t seen; /* bits by enum key */
    uint64_t values[64];
};

enum key {
    KEY_AS,
    KEY_SLOT,
    KEY_FLAGS,
    KEY_GPA,
    KEY_SIZE,
    KEY_HVA,
    KEY_VM,
    KEY_VCPU,
    KEY_FD,
    KEY_FIRST,
    KEY_PAGES,
    KEY_DIRTY,
    KEY_CAP,
    KEY_ATTRIBUTES,
    KEY_BY,
    KEY_EXIT,
    KEY_REQUEST,
    KEY_NAME,
    KEY_CHILD,
    KEY_TOOK,
    KEY_LAST,
    KEY_COUNT,
};

enum value { NUMBER32, NUMBER64, SLOT_FLAGS, SECONDS, TEXT };

static const struct {
    const char *name;
    enum value value;
} keys[KEY_COUNT] = {
    [KEY_AS] = {"as", NUMBER32},
    [KEY_SLOT] = {"slot", NUMBER32},
    [KEY_FLAGS] = {"flags", SLOT_FLAGS},
    [KEY_GPA] = {"gpa", NUMBER64},
    [KEY_SIZE] = {"size", NUMBER64},
    [KEY_HVA] = {"hva", NUMBER64},
    [KEY_VM] = {"vm", TEXT},
    [KEY_VCPU] = {"vcpu", NUMBER32},
    [KEY_FD] = {"fd", NUMBER32},
    [KEY_FIRST] = {"first", NUMBER64},
    [KEY_PAGES] = {"pages", NUMBER64},
    [KEY_DIRTY] = {"dirty", NUMBER64},
    [KEY_CAP] = {"cap", TEXT},
    [KEY_ATTRIBUTES] = {"attributes", NUMBER64},
    [KEY_BY] = {"by", TEXT},
    [KEY_EXIT] = {"exit", TEXT},
    [KEY_REQUEST] = {"request", NUMBER64},
    [KEY_NAME] = {"name", TEXT},
    [KEY_CHILD] = {"child", NUMBER32},
    [KEY_TOOK] = {"took", SECONDS},
    [KEY_LAST] = {"last", NUMBER32},
};

#define BIT(key) (1ull << (key))
#define SLOT_BITS (BIT(KEY_AS) | BIT(KEY_SLOT))
#define REGION_BITS (SLOT_BITS | BIT(KEY_FLAGS) | BIT(KEY_GPA) | BIT(KEY_SIZE) | BIT(KEY_HVA))

enum object { OBJECT_NONE, OBJECT_SYS, OBJECT_VM, OBJECT_VCPU };
#define ON(object) (1u << (object))
#define ON_ANY 0xfu

/* What each call is made on, and what it always says. */
static const struct {
    enum trace_call call;
    const char *word; /* where the name is not one of <linux/kvm.h> */
    unsigned on;
    uint64_t needs;
} rules[] = {
    {TRACE_VM_CREATE, NULL, ON(OBJECT_SYS), BIT(KEY_VM)},
    {TRACE_VCPU_CREATE, NULL, ON(OBJECT_VM), BIT(KEY_VCPU)},
    {TRACE_CLOSE, "close", ON(OBJECT_VM) | ON(OBJECT_VCPU) | ON(OBJECT_SYS), 0},
    {TRACE_SET_REGION, NULL, ON(OBJECT_VM), REGION_BITS},
    {TRACE_GET_LOG, NULL, ON(OBJECT_VM), SLOT_BITS},
    {TRACE_CLEAR_LOG, NULL, ON(OBJECT_VM), SLOT_BITS | BIT(KEY_FIRST) | BIT(KEY_PAGES)},
    {TRACE_RESET_RINGS, NULL, ON(OBJECT_VM), 0},
    {TRACE_ENABLE_CAP, NULL, ON(OBJECT_VM) | ON(OBJECT_VCPU), BIT(KEY_CAP)},
    {TRACE_SET_ATTRIBUTES, NULL, ON(OBJECT_VM), BIT(KEY_GPA) | BIT(KEY_SIZE) | BIT(KEY_ATTRIBUTES)},
    {TRACE_GUEST_MEMFD, NULL, ON(OBJECT_VM), BIT(KEY_SIZE)},
    {TRACE_RUN, NULL, ON(OBJECT_VCPU), 0},
    {TRACE_PRE_FAULT, NULL, ON(OBJECT_VCPU), BIT(KEY_GPA) | BIT(KEY_SIZE)},
    {TRACE_NOTIFY, "notify", ON(OBJECT_VM), BIT(KEY_BY) | BIT(KEY_HVA) | BIT(KEY_SIZE)},
    {TRACE_UNSUPPORTED, "unsupported", ON_ANY, BIT(KEY_REQUEST)},
    {TRACE_EXIT, "exit", ON(OBJECT_NONE), 0},
    {TRACE_OTHER, "fork", ON(OBJECT_NONE), BIT(KEY_CHILD)},
    {TRACE_EXIT, "exec", ON(OBJECT_NONE), 0},
};

#define RULE_COUNT (sizeof(rules) / sizeof(rules[0]))

struct trace_own *trace_own_new(void)
{
    return tool_alloc(sizeof(struct trace_own));
}

void trace_own_free(struct trace_own *own)
{
    if (own != NULL) {
        trace_map_fini(&own->vms, NULL);
        free(own);
    }
}

static int shown(struct word word)
{
    return word.length < 60 ? (int)word.length : 60;
}

static bool take_prefix(struct word *word, const char *prefix)
{
    size_t length = strlen(prefix);

    if (word->length < length || memcmp(word->text, prefix, length) != 0) {
        return false;
    }
    *word = (struct word){word->text + length, word->length - length};
    return true;
}

static bool number32(struct word word, uint32_t *value)
{
    uint64_t wide;

    if (!trace_number(word, &wide) || wide >= TRACE_NONE) {
        return false;
    }
    *value = (uint32_t)wide;
    return true;
}

/* ---- who, and on what ---- */

static uint32_t vm_at(const struct trace_own *own, size_t place)
{
    return (uint32_t)((uintptr_t)own->vms.entries[place].item - 1);
}

static uint32_t set_vm(struct trace_own *own, uint32_t pid, uint32_t number, uint32_t vm)
{
    trace_map_set(&own->vms, pid, number, (void *)((uintptr_t)vm + 1));
    return vm;
}

/*
 * The event's number of a process's VM. A name that the process has not made is its parent's, before
 * fork(); the line of that may come later. The newest of that name is meant.
 */
static uint32_t vm_of(struct trace_own *own, uint32_t pid, uint32_t number)
{
    void *known = trace_map_find(&own->vms, pid, number);
    uint32_t newest = TRACE_NONE;
    size_t i;

    if (known != NULL) {
        return (uint32_t)((uintptr_t)known - 1);
    }
    for (i = 0; i < own->vms.count; i++) {
        if (own->vms.entries[i].low == number && (newest == TRACE_NONE || vm_at(own, i) > newest)) {
            newest = vm_at(own, i);
        }
    }
    return set_vm(own, pid, number, newest != TRACE_NONE ? newest : own->vm_count++);
}

/* A process ends, or runs another program: the names that it has are free. */
static void forget_process(struct trace_own *own, uint32_t pid)
{
    size_t place = trace_map_place(&own->vms, pid, 0);

    while (place < own->vms.count && own->vms.entries[place].high == pid) {
        trace_map_remove_at(&own->vms, place);
    }
}

static int take_time(struct trace *trace, struct trace_event *event)
{
    struct trace_own *own = trace->own;
    struct word word;

    if (take_word(&trace->lines, "TIME", &word) != 0) {
        return -1;
    }
    if (!trace_seconds(word, &event->end_us) || event->end_us > UINT64_MAX / 4) {
        return lines_error(&trace->lines, "TIME '%.*s' is not a number of seconds", shown(word),
                           word.text);
    }
    event->end_us += own->run_us;
    event->begin_us = event->end_us;
    event->has_time = true;
    own->last_us = event->end_us > own->last_us ? event->end_us : own->last_us;
    return 0;
}

static int take_thread(struct trace *trace, struct trace_event *event)
{
    struct word word;
    struct word rest;

    if (take_word(&trace->lines, "PID/TID", &word) != 0) {
        return -1;
    }
    rest = word;
    if (!number32(trace_split(&rest, '/'), &event->pid) || !number32(rest, &event->tid)) {
        return lines_error(&trace->lines, "PID/TID '%.*s' is not two numbers with a / between",
                           shown(word), word.text);
    }
    return 0;
}

static int take_object(struct trace *trace, struct trace_event *event, enum object *object)
{
    struct word word;
    struct word rest;
    struct word first;
    uint32_t number;

    if (take_word(&trace->lines, "OBJECT", &word) != 0) {
        return -1;
    }
    event->vm = TRACE_NONE;
    event->vcpu = TRACE_NONE;
    *object = word_is(word, "sys") ? OBJECT_SYS : OBJECT_NONE;
    if (*object == OBJECT_SYS || word_is(word, "-")) {
        return 0;
    }
    rest = word;
    first = trace_split(&rest, '.');
    if (!take_prefix(&first, "vm") || !number32(first, &number) ||
        (first.text + first.length != word.text + word.length &&
         (!take_prefix(&rest, "vcpu") || !number32(rest, &event->vcpu)))) {
        return lines_error(&trace->lines, "OBJECT '%.*s' is not sys, vmN, vmN.vcpuM or -",
                           shown(word), word.text);
    }
    event->vm = vm_of(trace->own, event->pid, number);
    *object = event->vcpu != TRACE_NONE ? OBJECT_VCPU : OBJECT_VM;
    return 0;
}

/* ---- KEY=VALUE ---- */

static bool is_key(struct word word)
{
    size_t i;

    for (i = 0; i < word.length; i++) {
        char c = word.text[i];

        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_') {
            return false;
        }
    }
    return word.length > 0;
}

/* It goes to the terminal as it stands. */
static bool is_printable(struct word word)
{
    size_t i;

    for (i = 0; i < word.length; i++) {
        if (word.text[i] <= ' ' || word.text[i] > '~') {
            return false;
        }
    }
    return word.length > 0;
}

/* Flags are names for slots only; other calls have numbers there. */
static bool value_of(enum value kind, struct word text, uint64_t *value)
{
    uint32_t narrow = 0;
    bool good;

    switch (kind) {
    case NUMBER64:
        return trace_number(text, value);
    case SECONDS:
        return trace_seconds(text, value);
    case TEXT:
        return is_printable(text);
    case SLOT_FLAGS:
        if (trace_number(text, value)) {
            return true;
        }
        good = trace_flags(text, &narrow);
        break;
    default:
        good = number32(text, &narrow);
        break;
    }
    *value = narrow;
    return good;
}

/* Texts that the event keeps. */
static void keep_text(struct trace_event *event, unsigned key, struct word text)
{
    if (key == KEY_BY || key == KEY_CAP || key == KEY_EXIT) {
        trace_copy(event->text, sizeof(event->text), text);
    } else if (key == KEY_NAME && event->call == TRACE_UNSUPPORTED) {
        trace_copy(event->name, sizeof(event->name), text);
    }
}

static int take_vm_name(struct trace *trace, struct trace_event *event, struct word text)
{
    struct word digits = text;
    uint32_t number;

    if (!take_prefix(&digits, "vm") || !number32(digits, &number)) {
        return lines_error(&trace->lines, "vm '%.*s' is not vmN", shown(text), text.text);
    }
    if (trace_map_find(&trace->own->vms, event->pid, number) != NULL) {
        return lines_error(&trace->lines, "vm%u of process %u is there already", number,
                           event->pid);
    }
    event->vm = set_vm(trace->own, event->pid, number, trace->own->vm_count++);
    return 0;
}

static int take_field(struct trace *trace, struct trace_event *event, struct fields *fields,
                      struct word word)
{
    struct word text = word;
    struct word name = trace_split(&text, '=');
    unsigned key;

    if (!is_key(name) || name.length == word.length) {
        return lines_error(&trace->lines, "'%.*s' is not KEY=VALUE", shown(word), word.text);
    }
    for (key = 0; key < KEY_COUNT && !word_is(name, keys[key].name); key++) {
    }
    if (key == KEY_COUNT) {
        return 0; /* of a later version */
    }
    if ((fields->seen & BIT(key)) != 0) {
        return lines_error(&trace->lines, "%s= stands there twice", keys[key].name);
    }
    if (!value_of(keys[key].value, text, &fields->values[key])) {
        return lines_error(&trace->lines, "%s '%.*s' is wrong or too large", keys[key].name,
                           shown(text), text.text);
    }
    fields->seen |= BIT(key);
    if (key == KEY_VM && event->call == TRACE_VM_CREATE) {
        return take_vm_name(trace, event, text);
    }
    keep_text(event, key, text);
    return 0;
}

static int take_result(struct trace *trace, struct trace_event *event)
{
    struct word word;

    if (take_word(&trace->lines, "RESULT", &word) != 0) {
        return -1;
    }
    if (trace_number(word, &event->value)) {
        event->result = TRACE_SUCCESS;
        return take_end(&trace->lines);
    }
    event->error = trace_errno_name(word);
    event->result = TRACE_ERROR;
    if (event->error == NULL) {
        return lines_error(&trace->lines, "RESULT '%.*s' is neither a number nor an errno",
                           shown(word), word.text);
    }
    return take_end(&trace->lines);
}

/* Everything between CALL and the end of the line. */
static int take_fields(struct trace *trace, struct trace_event *event, struct fields *fields)
{
    for (;;) {
        struct word word;

        if (take_word(&trace->lines, "= RESULT", &word) != 0) {
            return -1;
        }
        if (word_is(word, "=")) {
            return take_result(trace, event);
        }
        if (take_field(trace, event, fields, word) != 0) {
            return -1;
        }
    }
}

/* ---- what a call needs ---- */

static int take_call(struct trace *trace, struct trace_event *event, size_t *rule)
{
    struct word word;

    if (take_word(&trace->lines, "CALL", &word) != 0) {
        return -1;
    }
    trace_copy(event->name, sizeof(event->name), word);
    event->call = trace_call_by_name(word);
    for (*rule = 0; *rule < RULE_COUNT; (*rule)++) {
        const char *own = rules[*rule].word;

        if (own != NULL ? word_is(word, own)
                        : event->call != TRACE_OTHER && event->call == rules[*rule].call) {
            event->call = rules[*rule].call;
            return 0;
        }
    }
    if (trace_is_request(word)) {
        return 0;
    }
    return lines_error(&trace->lines, "CALL '%.*s' is unknown", shown(word), word.text);
}

static int check_fields(struct trace *trace, const struct trace_event *event,
                        const struct fields *fields, uint64_t needs)
{
    uint64_t missing = needs & ~fields->seen;

    if (missing != 0 && event->result == TRACE_SUCCESS) {
        return lines_error(&trace->lines, "%s lacks %s=", event->name,
                           keys[__builtin_ctzll(missing)].name);
    }
    if ((fields->seen & BIT(KEY_FLAGS)) != 0 && event->call == TRACE_SET_REGION &&
        fields->values[KEY_FLAGS] > UINT32_MAX) {
        return lines_error(&trace->lines, "flags do not fit in 32 bits");
    }
    if (fields->values[KEY_AS] > UINT16_MAX || fields->values[KEY_SLOT] > UINT16_MAX) {
        return lines_error(&trace->lines, "as and slot have 16 bits each");
    }
    return 0;
}

static void fill(struct trace *trace, struct trace_event *event, const struct fields *fields,
                 uint64_t needs)
{
    const uint64_t *values = fields->values;

    event->has_fields = (needs & ~fields->seen) == 0;
    event->as = (uint32_t)values[KEY_AS];
    event->slot = (uint32_t)values[KEY_SLOT];
    event->flags = (uint32_t)values[KEY_FLAGS];
    event->gpa = values[KEY_GPA];
    event->size_bytes = values[KEY_SIZE];
    event->hva = values[KEY_HVA];
    event->fd = (uint32_t)values[KEY_FD];
    event->is_last = values[KEY_LAST] != 0;
    event->has_dirty = (fields->seen & BIT(KEY_DIRTY)) != 0;
    event->dirty_count = values[KEY_DIRTY];
    if (event->call == TRACE_VCPU_CREATE) {
        event->vcpu = event->has_fields ? (uint32_t)values[KEY_VCPU] : TRACE_NONE;
    }
    if (event->call == TRACE_UNSUPPORTED && (fields->seen & BIT(KEY_NAME)) == 0) {
        snprintf(event->name, sizeof(event->name), "0x%llx",
                 (unsigned long long)values[KEY_REQUEST]);
    }
    trace->has_took |= (fields->seen & BIT(KEY_TOOK)) != 0;
    if (values[KEY_TOOK] <= event->end_us) {
        event->begin_us = event->end_us - values[KEY_TOOK];
    }
}

/* A version's line begins a run. */
static int read_version(struct trace *trace)
{
    struct trace_own *own = trace->own;
    struct word word;

    if (take_word(&trace->lines, "guestmem-trace", &word) != 0 ||
        take_word(&trace->lines, "version", &word) != 0) {
        return -1;
    }
    if (!word_is(word, "1")) {
        return lines_error(&trace->lines, "version '%.*s' of traces is unknown; this reads 1",
                           shown(word), word.text);
    }
    trace_map_fini(&own->vms, NULL);
    own->run_us = own->last_us;
    return take_end(&trace->lines);
}

int trace_own_read(struct trace *trace, struct trace_event *event)
{
    struct fields fields = {0};
    enum object object;
    uint64_t needs;
    size_t rule;

    if (strncmp(trace->lines.text, "guestmem-trace", 14) == 0) {
        return read_version(trace);
    }
    if (take_time(trace, event) != 0 || take_thread(trace, event) != 0 ||
        take_object(trace, event, &object) != 0 || take_call(trace, event, &rule) != 0) {
        return -1;
    }
    needs = rule < RULE_COUNT ? rules[rule].needs : 0;
    if (strcmp(trace->lines.next, "begin") == 0) {
        event->is_begin = true;
        event->result = TRACE_UNKNOWN;
    } else if (take_fields(trace, event, &fields) != 0 ||
               check_fields(trace, event, &fields, needs) != 0) {
        return -1;
    }
    if (rule < RULE_COUNT && (rules[rule].on & ON(object)) == 0 && event->result != TRACE_ERROR) {
        return lines_error(&trace->lines, "%s is not a call of such an object", event->name);
    }
    if (!event->is_begin) {
        fill(trace, event, &fields, needs);
    }
    if (event->call == TRACE_EXIT && event->result == TRACE_SUCCESS) {
        forget_process(trace->own, event->pid);
    }
    return 1;
}
