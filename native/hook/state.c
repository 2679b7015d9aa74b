/* As much JSON as a runtime's state needs: strings are skipped as such, and only members of the outermost object count. */
#include "state.h"

#include <stdlib.h>
#include <string.h>

/* Behind the closing quote of the string that begins at ``at``; at its end if there is none. */
static const char *behind(const char *at) {
    for (at++; *at && *at != '"'; at++)
        if (*at == '\\' && at[1]) at++;
    return *at ? at + 1 : at;
}

static const char *blank(const char *at) { return at + strspn(at, " \t\r\n"); }

long state_pid(const char *json) {
    int depth = 0;
    for (const char *at = json; *at;) {
        if (*at == '{' || *at == '[') depth++;
        if (*at == '}' || *at == ']') depth--;
        if (*at != '"') {
            at++;
            continue;
        }
        const char *end = behind(at), *colon = blank(end);
        if (depth == 1 && *colon == ':' && end - at == 5 && !memcmp(at, "\"pid\"", 5)) {
            const char *value = blank(colon + 1);
            return *value >= '1' && *value <= '9' ? strtol(value, NULL, 10) : -1;
        }
        at = end;
    }
    return -1;
}
