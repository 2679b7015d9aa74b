#include "holdings.h"

#include "machine.h"

/* Open addressing with linear probing; a place is empty where kind is 0. */
static holding_t *table;
static size_t size, filled;

static size_t place_of(kind_t kind, uint64_t key) {
  uint64_t hash = (key + kind) * 0x9e3779b97f4a7c15ull;
  return (size_t)(hash >> 32) & (size - 1); /* the upper bits are the mixed ones */
}

static holding_t *find(kind_t kind, uint64_t key) {
  if (!size) return NULL;
  for (size_t i = place_of(kind, key); table[i].kind; i = (i + 1) & (size - 1))
    if (table[i].kind == kind && table[i].key == key) return &table[i];
  return NULL;
}

static holding_t store(const holding_t *item) {
  size_t i = place_of(item->kind, item->key);
  while (table[i].kind && (table[i].kind != item->kind || table[i].key != item->key)) i = (i + 1) & (size - 1);
  if (!table[i].kind) filled++;
  holding_t before = table[i];
  table[i] = *item;
  return before;
}

static bool grow(void) {
  holding_t *before = table, *larger;
  size_t count = size;
  if (filled * 2 < size) return true;
  larger = map_memory((count ? count * 2 : 256) * sizeof *larger);
  if (!larger) return false;
  table = larger;
  size = count ? count * 2 : 256;
  filled = 0;
  for (size_t i = 0; i < count; i++)
    if (before[i].kind) store(&before[i]);
  if (before) unmap(before, count * sizeof *before);
  return true;
}

/* Closes the gap, so that what was pushed past it is still found. */
static void erase(holding_t *item) {
  size_t gap = (size_t)(item - table), i = gap;
  for (;;) {
    i = (i + 1) & (size - 1);
    if (!table[i].kind) break;
    size_t home = place_of(table[i].kind, table[i].key);
    if (((i - home) & (size - 1)) < ((i - gap) & (size - 1))) continue;
    table[gap] = table[i];
    gap = i;
  }
  table[gap].kind = 0;
  filled--;
}

bool holding_replace(const holding_t *item, holding_t *before) {
  lock(HOLDINGS);
  bool done = grow();
  if (done) *before = store(item);
  unlock(HOLDINGS);
  return done;
}

bool holding_put(const holding_t *item) {
  holding_t before;
  return holding_replace(item, &before);
}

bool holding_take(kind_t kind, uint64_t key, holding_t *out) {
  lock(HOLDINGS);
  holding_t *item = find(kind, key);
  if (item) {
    *out = *item;
    erase(item);
  }
  unlock(HOLDINGS);
  return item != NULL;
}

bool holding_get(kind_t kind, uint64_t key, holding_t *out) {
  lock(HOLDINGS);
  holding_t *item = find(kind, key);
  if (item) *out = *item;
  unlock(HOLDINGS);
  return item != NULL;
}

bool holding_change(kind_t kind, uint64_t key, void (*change)(holding_t *, void *), void *data) {
  lock(HOLDINGS);
  holding_t *item = find(kind, key);
  if (item) change(item, data);
  unlock(HOLDINGS);
  return item != NULL;
}

static size_t count_matching(bool (*matches)(const holding_t *, const void *), const void *data) {
  size_t count = 0;
  for (size_t i = 0; i < size; i++) count += table[i].kind && matches(&table[i], data);
  return count;
}

static void move_matching(bool (*matches)(const holding_t *, const void *), const void *data, holdings_t *out) {
  for (size_t i = 0; i < size;) {
    if (table[i].kind && matches(&table[i], data)) {
      out->item[out->count++] = table[i];
      erase(&table[i]); /* another one may stand there now */
    } else i++;
  }
}

holdings_t holding_take_all(bool (*matches)(const holding_t *, const void *), const void *data) {
  holdings_t out = {NULL, 0};
  lock(HOLDINGS);
  size_t count = count_matching(matches, data);
  if (count) out.item = map_memory(count * sizeof *out.item);
  if (out.item) move_matching(matches, data, &out);
  unlock(HOLDINGS);
  return out;
}

void holdings_put_back(const holdings_t *all) {
  for (size_t i = 0; i < all->count; i++) holding_put(&all->item[i]);
}

void holdings_forget(const holdings_t *all) {
  if (all->item) unmap(all->item, all->count * sizeof *all->item);
}

void holding_each(void (*change)(holding_t *, void *), void *data) {
  lock(HOLDINGS);
  for (size_t i = 0; i < size; i++)
    if (table[i].kind) change(&table[i], data);
  unlock(HOLDINGS);
}
