/* base/log.h - telling a caller's log hook what no call can return. Never from a hot path. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <guestmem/types.h>

/* Write a sentence, if there is a hook. What is held meanwhile is in struct gm_log_hook's comment. */
__attribute__((cold, format(printf, 3, 4))) void
log_say(const struct gm_log_hook *hook, enum gm_log_level level, const char *format, ...);

#endif
