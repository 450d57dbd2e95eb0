/* conformance/ept/ask.c - have an image answered by run.py. */
#include "ask.h"

#include "model/require.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_SKIPPED 77

/* As run.py prints enum oracle_outcome. */
static const char *const outcome_names[] = {
    [ORACLE_OK] = "ok",
    [ORACLE_VIOLATION] = "violation",
    [ORACLE_MISCONFIGURATION] = "misconfiguration",
    [ORACLE_NESTED_FAULT] = "nested_fault",
    [ORACLE_STRANGE] = "strange",
    [ORACLE_LOST] = "lost",
    [ORACLE_OTHER_EXIT] = "other_exit",
    [ORACLE_NO_ENTRY] = "no_entry",
};
#define OUTCOME_COUNT (sizeof(outcome_names) / sizeof(outcome_names[0]))

const char *ask_outcome_name(uint64_t outcome)
{
    return outcome < OUTCOME_COUNT ? outcome_names[outcome] : "?";
}

static uint64_t outcome_of(const char *name)
{
    for (uint64_t i = 0; i < OUTCOME_COUNT; i++) {
        if (strcmp(name, outcome_names[i]) == 0) {
            return i;
        }
    }
    return OUTCOME_COUNT;
}

/* Take one line in. False: it is the last one. */
static bool take_line(const char *line, const struct dump *dump, size_t query_count,
                      struct ask_result *result)
{
    char name[32];
    size_t number;
    unsigned index;
    unsigned long long first;
    unsigned long long second;

    if (sscanf(line, "answer %zu %31s %llx %llx", &number, name, &first, &second) == 4) {
        REQUIRE(number < query_count, "%s", line);
        result->answers[number] = (struct oracle_answer){outcome_of(name), first, second};
        return true;
    }
    if (sscanf(line, "entry %zu %u %llx", &number, &index, &first) == 3) {
        REQUIRE(number < dump->table_count && index < EPT_ENTRIES, "%s", line);
        result->words[number * EPT_ENTRIES + index] = first;
        return true;
    }
    return strcmp(line, "end\n") != 0;
}

static bool run(const char *image, const struct dump *dump, size_t query_count,
                struct ask_result *result)
{
    char command[512];
    char line[256];
    bool ended = false;
    FILE *pipe;
    int status;

    /* NOLINTNEXTLINE(cert-env33-c): both names are our own */
    snprintf(command, sizeof(command), "python3 '%s' '%s'", EPT_RUN_SCRIPT, image);
    pipe = popen(command, "r");
    REQUIRE(pipe != NULL, "%s", command);
    while (!ended && fgets(line, sizeof(line), pipe) != NULL) {
        ended = !take_line(line, dump, query_count, result);
    }
    status = pclose(pipe);
    REQUIRE(WIFEXITED(status), "%s: status %d", command, status);
    if (WEXITSTATUS(status) == EXIT_SKIPPED) {
        return false;
    }
    REQUIRE(ended && WEXITSTATUS(status) == 0, "%s: exit code %d", command, WEXITSTATUS(status));
    return true;
}

bool ask(const struct dump *dump, uint64_t window_gpa, const struct oracle_query *queries,
         size_t query_count, struct ask_result *result)
{
    char path[] = "/tmp/guestmem-ept-image-XXXXXX";
    int fd = mkstemp(path);
    FILE *file = fd != -1 ? fdopen(fd, "wb") : NULL;
    bool answered;

    REQUIRE(file != NULL, "no temporary file");
    dump_write(dump, file, window_gpa, queries, query_count);
    REQUIRE(fclose(file) == 0, "the image cannot be written");
    result->answers = calloc(query_count, sizeof(result->answers[0]));
    result->words = calloc(dump->table_count * EPT_ENTRIES, sizeof(result->words[0]));
    REQUIRE(result->answers != NULL && result->words != NULL, "out of memory");
    answered = run(path, dump, query_count, result);
    unlink(path);
    if (!answered) {
        ask_drop(result);
    }
    return answered;
}

void ask_drop(struct ask_result *result)
{
    free(result->answers);
    free(result->words);
}
