/*
 * owned.h: the memory of one Node environment (main thread or worker), so that it can be freed when the
 * environment ends. A hash table by address with linear probing; only napi.c includes it.
 */
#ifndef GQA_OWNED_H
#define GQA_OWNED_H
#include <stdint.h>
#include <stdlib.h>

struct piece {
  uintptr_t address; /* 0 = a free place */
  size_t bytes;
  int mapped; /* a file, not a buffer */
};
struct owned {
  struct piece *pieces;
  size_t places, count; /* places is 0 or a power of two, at most half of them taken */
};

static size_t owned_home(const struct owned *o, uintptr_t address) { return (size_t)((uint64_t)address * 0x9e3779b97f4a7c15ull >> 20) & (o->places - 1); }

static struct piece *owned_find(const struct owned *o, uintptr_t address) {
  size_t at = owned_home(o, address);
  while (o->pieces[at].address && o->pieces[at].address != address) at = (at + 1) & (o->places - 1);
  return &o->pieces[at];
}

/* False when there is no memory for the entry. */
static int owned_add(struct owned *o, struct piece piece) {
  if (2 * o->count >= o->places) {
    struct owned larger = {.places = o->places ? 2 * o->places : 256, .count = o->count};
    larger.pieces = calloc(larger.places, sizeof *larger.pieces);
    if (!larger.pieces) return 0;
    for (size_t i = 0; i < o->places; i++)
      if (o->pieces[i].address) *owned_find(&larger, o->pieces[i].address) = o->pieces[i];
    free(o->pieces);
    *o = larger;
  }
  *owned_find(o, piece.address) = piece;
  o->count++;
  return 1;
}

/* Removes the entry of an address; its address is 0 when there is none. */
static struct piece owned_take(struct owned *o, uintptr_t address) {
  if (!o->places || !address) return (struct piece){0};
  struct piece *found = owned_find(o, address), taken = *found;
  if (!taken.address) return taken;
  /* Later entries of the probe sequence move up, so that no search ends early. */
  size_t gap = (size_t)(found - o->pieces);
  for (size_t at = (gap + 1) & (o->places - 1); o->pieces[at].address; at = (at + 1) & (o->places - 1)) {
    const size_t home = owned_home(o, o->pieces[at].address);
    if (((at - home) & (o->places - 1)) < ((at - gap) & (o->places - 1))) continue;
    o->pieces[gap] = o->pieces[at];
    gap = at;
  }
  o->pieces[gap].address = 0;
  o->count--;
  return taken;
}

#endif
