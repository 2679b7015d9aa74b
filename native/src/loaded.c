#define _GNU_SOURCE
#include "loaded.h"

#include <elf.h>
#include <link.h>
#include <stdint.h>
#include <string.h>

typedef struct {
  const char *strings;
  const ElfW(Sym) *symbols;
  const uint32_t *gnu_hash;
  const ElfW(Word) *hash;
  const char *soname;
} tables_t;

typedef struct {
  const char *soname, *symbol;
  const void *address;
  void *found;
} search_t;

/* glibc writes the addresses of these tables back as they lie in memory, but not for every object. */
static const void *at(const struct dl_phdr_info *info, ElfW(Addr) value) {
  return (const void *)(value < info->dlpi_addr ? value + info->dlpi_addr : value);
}

static bool read_tables(const struct dl_phdr_info *info, tables_t *out) {
  const ElfW(Dyn) *entry = NULL;
  size_t soname = 0;
  memset(out, 0, sizeof *out);
  for (int i = 0; i < info->dlpi_phnum; i++)
    if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
      entry = (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
  for (; entry && entry->d_tag != DT_NULL; entry++) switch (entry->d_tag) {
      case DT_STRTAB: out->strings = at(info, entry->d_un.d_ptr); break;
      case DT_SYMTAB: out->symbols = at(info, entry->d_un.d_ptr); break;
      case DT_GNU_HASH: out->gnu_hash = at(info, entry->d_un.d_ptr); break;
      case DT_HASH: out->hash = at(info, entry->d_un.d_ptr); break;
      case DT_SONAME: soname = entry->d_un.d_val; break;
      default: break;
    }
  if (!out->strings || !out->symbols || !soname) return false;
  out->soname = out->strings + soname;
  return true;
}

static bool defines(const tables_t *t, uint32_t index, const char *name) {
  return t->symbols[index].st_shndx != SHN_UNDEF && !strcmp(t->strings + t->symbols[index].st_name, name);
}

static uint32_t by_gnu_hash(const tables_t *t, const char *name) {
  uint32_t hash = 5381, buckets = t->gnu_hash[0], first = t->gnu_hash[1], words = t->gnu_hash[2];
  const uint32_t *bucket = t->gnu_hash + 4 + words * (sizeof(ElfW(Addr)) / 4), *chain = bucket + buckets;
  for (const char *c = name; *c; c++) hash = hash * 33 + (unsigned char)*c;
  uint32_t index = buckets ? bucket[hash % buckets] : 0;
  if (index < first || !index) return 0;
  for (;; index++) {
    uint32_t found = chain[index - first];
    if ((found | 1) == (hash | 1) && defines(t, index, name)) return index;
    if (found & 1) return 0;
  }
}

static uint32_t by_hash(const tables_t *t, const char *name) {
  for (uint32_t index = 1; index < t->hash[1]; index++)
    if (defines(t, index, name)) return index;
  return 0;
}

static int find_symbol(struct dl_phdr_info *info, size_t size, void *data) {
  search_t *search = data;
  tables_t tables;
  (void)size;
  if (!read_tables(info, &tables) || strcmp(tables.soname, search->soname)) return 0;
  uint32_t index = tables.gnu_hash ? by_gnu_hash(&tables, search->symbol) : tables.hash ? by_hash(&tables, search->symbol) : 0;
  if (index) search->found = (void *)(info->dlpi_addr + tables.symbols[index].st_value);
  return index != 0;
}

void *loaded_symbol(const char *soname, const char *symbol) {
  search_t search = {soname, symbol, NULL, NULL};
  dl_iterate_phdr(find_symbol, &search);
  return search.found;
}

void *loaded_to_keep(_Atomic(void *) *kept, const char *soname, const char *symbol) {
  void *found = loaded_symbol(soname, symbol);
  if (found) atomic_store_explicit(kept, found, memory_order_release);
  return found;
}

static int find_address(struct dl_phdr_info *info, size_t size, void *data) {
  search_t *search = data;
  tables_t tables;
  uintptr_t address = (uintptr_t)search->address;
  (void)size;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    uintptr_t start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
    if (info->dlpi_phdr[i].p_type != PT_LOAD || address < start || address >= start + info->dlpi_phdr[i].p_memsz) continue;
    search->found = read_tables(info, &tables) && !strcmp(tables.soname, search->soname) ? data : NULL;
    return 1;
  }
  return 0;
}

bool loaded_at(const char *soname, const void *address) {
  search_t search = {soname, NULL, address, NULL};
  dl_iterate_phdr(find_address, &search);
  return search.found != NULL;
}
