#include "limits.h"

#include <string.h>

static int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool limits_uuid(const char *text, uint8_t out[16]) {
  const char *c = strchr(text, '-');
  unsigned count = 0;
  if (!c) return false;
  for (c++; *c && *c != ' ' && *c != '\n'; c++) {
    if (*c == '-') continue;
    if (digit(*c) < 0 || count == 32) return false;
    out[count / 2] = (uint8_t)(count % 2 ? out[count / 2] | digit(*c) : digit(*c) << 4);
    count++;
  }
  return count == 32;
}

static bool number(const char **at, unsigned base, uint64_t most, uint64_t *out) {
  const char *start = *at;
  uint64_t value = 0;
  for (int d; (d = digit(**at)) >= 0 && (unsigned)d < base; (*at)++) {
    if (value > (most - (unsigned)d) / base) return false;
    value = value * base + (unsigned)d;
  }
  *out = value;
  return *at != start;
}

static bool word(const char **at, const char *expected) {
  size_t length = strlen(expected);
  if (strncmp(*at, expected, length)) return false;
  *at += length;
  return true;
}

static bool gpu_line(const char **at, limits_t *out) {
  uint64_t percent;
  unsigned gpu = out->gpus;
  if (gpu == LIMITS_GPUS || !limits_uuid(*at, out->gpu[gpu].uuid)) return false;
  *at += strcspn(*at, " \n");
  if (!word(at, " ") || !number(at, 10, UINT64_MAX, &out->gpu[gpu].bytes)) return false;
  if (!word(at, " ") || !number(at, 10, 100, &percent) || !word(at, "\n")) return false;
  out->gpu[gpu].percent = (unsigned)percent;
  out->gpus++;
  return true;
}

bool limits_read(const char *text, size_t length, limits_t *out) {
  const char *at = text;
  uint64_t gpus, hash = 0xcbf29ce484222325ull, written;
  memset(out, 0, sizeof *out);
  if (strlen(text) != length || !word(&at, "tessera 1\n")) return false;
  while (word(&at, "gpu "))
    if (!gpu_line(&at, out)) return false;
  for (const char *c = text; c < at; c++) hash = (hash ^ (uint8_t)*c) * 0x100000001b3ull;
  if (!word(&at, "end ") || !number(&at, 10, LIMITS_GPUS, &gpus) || !word(&at, " ")) return false;
  if (!number(&at, 16, UINT64_MAX, &written) || !word(&at, "\n") || *at) return false;
  return out->gpus && gpus == out->gpus && written == hash;
}

bool limits_turn(uint64_t word, turn_t *out) {
  uint64_t turn = word & 0xffffffffffffull, check = (turn ^ turn >> 16 ^ turn >> 32 ^ 0x7e55) & 0xffff;
  *out = (turn_t){1000 * (turn >> 24), 1000 * (turn & 0xffffff)};
  return word >> 48 == check;
}
