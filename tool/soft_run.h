/* soft_run.h - running a script on a machine. */
#ifndef TOOL_SOFT_RUN_H
#define TOOL_SOFT_RUN_H

#include "soft_machine.h"
#include "soft_script.h"

/*
 * Run all lines, printing each with its result. Return: an exit code; if it is not TOOL_OK, the
 * user has been told why.
 */
int script_run(const struct script *script, const struct script_machine_ops *ops);

#endif
