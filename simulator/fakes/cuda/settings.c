#include "settings.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static settings_t known = {.driver = 13050, .pitch = 512, .poolstep = 1};

static unsigned read_rules(char *text, rule_t *out) {
  unsigned count = 0;
  char *rest = NULL;
  for (char *one = strtok_r(text, ";", &rest); one && count < MOST_RULES; one = strtok_r(NULL, ";", &rest)) {
    rule_t rule = {"", 0, 0};
    if (sscanf(one, "%63[^:]:%lu:%d", rule.name, &rule.number, &rule.code) >= 2) out[count++] = rule;
  }
  return count;
}

static void read_setting(const char *key, char *value) {
  if (!strcmp(key, "addresses"))
    known.addresses = !strcmp(value, "internal") ? INTERNAL : !strcmp(value, "shared") ? SHARED : EXPORTED;
  else if (!strcmp(key, "driver")) known.driver = atoi(value);
  else if (!strcmp(key, "pitch")) known.pitch = strtoul(value, NULL, 10);
  else if (!strcmp(key, "poolstep")) known.poolstep = strtoul(value, NULL, 10);
  else if (!strcmp(key, "context")) known.context = strtoul(value, NULL, 10);
  else if (!strcmp(key, "newer")) known.newer_count = read_rules(value, known.newer);
  else if (!strcmp(key, "fail")) known.fail_count = read_rules(value, known.fail);
}

static void read_all(void) {
  const char *given = getenv("TESSERA_FAKE_CUDA");
  char *text = given ? strdup(given) : NULL, *rest = NULL;
  for (char *one = text ? strtok_r(text, ",", &rest) : NULL; one; one = strtok_r(NULL, ",", &rest)) {
    char *value = strchr(one, '=');
    if (!value) continue;
    *value = 0;
    read_setting(one, value + 1);
  }
  free(text);
}

const settings_t *settings(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, read_all);
  return &known;
}
