/*
 * conformance/ept/ask.h - have an image answered: run.py, and its lines read back.
 */
#ifndef CONFORMANCE_EPT_ASK_H
#define CONFORMANCE_EPT_ASK_H

#include "dump.h"

/* What the emulator said. */
struct ask_result {
    struct oracle_answer *answers; /* one for each query */
    uint64_t *words;               /* all entries at the end, as dump->words */
};

/*
 * Let the emulator of the dump's format answer.
 * Return: true; false: it is not installed, as a line on stderr says. Other failures end the program.
 */
bool ask(const struct dump *dump, uint64_t window_gpa, const struct oracle_query *queries,
         size_t query_count, struct ask_result *result);
void ask_drop(struct ask_result *result);

const char *ask_outcome_name(uint64_t outcome);

#endif
