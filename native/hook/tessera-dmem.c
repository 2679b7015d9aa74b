/* Sets a container's limits of device memory when it is made, before anything runs in it: an OCI createRuntime hook.

   tessera-dmem PROC CGROUPS RECORD REGION BYTES [REGION BYTES]...

   The state that the runtime writes to standard input names the container's first process, whose cgroup (v2) gets the
   limits. RECORD is left with the cgroup's path first, so that the agent knows of limits that are in force. Any failure
   is one sentence on standard error and a status other than 0, by which the container is not started. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "state.h"

enum { LONGEST = 1 << 20 };
static char buffer[LONGEST];

static int refuse(const char *what, const char *which) {
    fprintf(stderr, "tessera-dmem: %s %s%s%s\n", what, which, errno ? ": " : "", errno ? strerror(errno) : "");
    return 1;
}

/* Everything of a file, closed by a zero; -1: it cannot be read, or is too long. */
static long slurp(int fd) {
    long length = 0;
    for (;;) {
        ssize_t got = read(fd, buffer + length, (size_t)(LONGEST - 1 - length));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        length += got;
        if (got == 0) break;
        if (length == LONGEST - 1) return errno = EFBIG, -1;
    }
    buffer[length] = 0;
    return length;
}

static long slurp_file(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    long length = slurp(fd);
    close(fd);
    return length;
}

static int put(const char *path, const char *text, int flags) {
    int fd = open(path, O_WRONLY | O_CLOEXEC | flags, 0600);
    if (fd < 0) return -1;
    ssize_t length = (ssize_t)strlen(text);
    ssize_t put = write(fd, text, (size_t)length);
    int failed = put != length || ((flags & O_CREAT) && fsync(fd));
    return close(fd) || failed ? -1 : 0;
}

/* The path of a process's cgroup in the unified hierarchy; it lies below the runtime's root and names no parent. */
static const char *cgroup_in(char *lines) {
    for (char *line = strtok(lines, "\n"); line; line = strtok(NULL, "\n"))
        if (!strncmp(line, "0::/", 4)) return line[4] && !strstr(line, "/..") ? line + 3 : NULL;
    return NULL;
}

static int record(const char *path, const char *cgroup) {
    char unfinished[4096];
    if ((size_t)snprintf(unfinished, sizeof unfinished, "%s.tmp", path) >= sizeof unfinished) return errno = ENAMETOOLONG, -1;
    return put(unfinished, cgroup, O_CREAT | O_TRUNC) || rename(unfinished, path) ? -1 : 0;
}

/* The last line of a region counts. */
static int holds(const char *region, const char *bytes) {
    size_t length = strlen(region);
    int same = 0;
    for (char *line = strtok(buffer, "\n"); line; line = strtok(NULL, "\n"))
        if (!strncmp(line, region, length) && line[length] == ' ') same = !strcmp(line + length + 1, bytes);
    return same;
}

static int limit(const char *file, const char *region, const char *bytes) {
    char line[512];
    if ((size_t)snprintf(line, sizeof line, "%s %s\n", region, bytes) >= sizeof line) {
        errno = 0;
        return refuse("region too long:", region);
    }
    if (put(file, line, O_APPEND)) return refuse("cannot write", file);
    if (slurp_file(file) < 0) return refuse("cannot read", file);
    errno = 0;
    return holds(region, bytes) ? 0 : refuse("the limit was not taken by", file);
}

int main(int count, char **given) {
    if (count < 6 || count % 2) {
        fputs("tessera-dmem: usage: tessera-dmem PROC CGROUPS RECORD REGION BYTES [REGION BYTES]...\n", stderr);
        return 2;
    }
    char path[4096], cgroup[4096];
    if (slurp(STDIN_FILENO) < 0) return refuse("cannot read", "the container's state");
    errno = 0;
    long pid = state_pid(buffer);
    if (pid <= 0) return refuse("no pid in", "the container's state");
    snprintf(path, sizeof path, "%s/%ld/cgroup", given[1], pid);
    if (slurp_file(path) < 0) return refuse("cannot read", path);
    errno = 0;
    const char *found = cgroup_in(buffer);
    if (!found) return refuse("no cgroup of version 2 in", path);
    if ((size_t)snprintf(cgroup, sizeof cgroup, "%s", found) >= sizeof cgroup ||
        (size_t)snprintf(path, sizeof path, "%s%s/dmem.max", given[2], cgroup) >= sizeof path)
        return refuse("too long a cgroup of", given[1]);
    if (record(given[3], cgroup)) return refuse("cannot write", given[3]);
    for (int at = 4; at < count; at += 2)
        if (limit(path, given[at], given[at + 1])) return 1;
    return 0;
}
