/* What the shim needs of the machine: a lock, the time, files. Nothing of pthread or libdl is linked. */
#ifndef TESSERA_MACHINE_H
#define TESSERA_MACHINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MOST_DEVICES 64

/* The process's locks; the last ones are a device's each. A child of fork finds them all free, whoever held one in the
 * parent. */
typedef enum {
  HOLDINGS, POOLS, CAPTURES, TURNS, LIMITS, ENTRIES_ASKED, LEDGER_OPENING, LEDGER_RETRY,
  PRIMARY, LOCKS = PRIMARY + MOST_DEVICES
} lock_t;

void lock(lock_t which);
void unlock(lock_t which);

/* Has `work` done in every child of fork from now on. */
void in_a_child(void (*work)(void));

uint64_t now_ns(void);
void sleep_ns(uint64_t ns);
void yield(void);
uint32_t process_id(void);

/* Opens a file by its absolute path, never through a link at its end, closed by exec. -1: it cannot be. */
int open_file(const char *path);
/* The same to be read and written by every user of the container; made where there is none. */
int open_shared_file(const char *path);
bool lengthen(int fd, size_t size);
void close_file(int fd);
/* Reads from a file's start. -1: it cannot be. */
long read_file(int fd, char *out, size_t size);
/* Maps the first `size` bytes of a file that is at least that long. NULL: it cannot be. */
void *map_file(int fd, size_t size, bool writable);
/* Zeroed memory, never given back to the C library. NULL: there is none. */
void *map_memory(size_t size);
void unmap(void *at, size_t size);

/* Locks on byte ranges of a file, held by the open file: they go with the process, however it ends. */
enum { RANGE_TRY, RANGE_WAIT, RANGE_FREE };
bool range_lock(int fd, uint64_t at, int how);
/* Whether anybody else holds it. */
bool range_held(int fd, uint64_t at);

#endif
