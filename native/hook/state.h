#ifndef TESSERA_STATE_H
#define TESSERA_STATE_H

/* The number of the member "pid" of a JSON object, not of objects inside it; -1: there is none. */
long state_pid(const char *json);

#endif
