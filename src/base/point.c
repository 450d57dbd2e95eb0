/* base/point.c - the hook of named points. */
#include "base/point.h"

#ifdef GM_AUDIT_ON
void (*_Atomic point_hook)(const char *name);
#else
/* A file may not be empty. */
extern const int point_is_off;
const int point_is_off = 1;
#endif
