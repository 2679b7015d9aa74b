#include "gate.h"

#include "bounds.h"

#define FIRST_COST_NS 20 /* a warp, before anything was timed */
#define LEAST_WAIT_NS 20000ull
#define MOST_OWED_NS (5 * GATE_PERIOD_NS)
#define DEAREST_NS 1000000000ull
#define FADING(sum) ((sum) - (sum) / 8)

static uint64_t cost_of(const gate_t *gate, uint64_t warps) {
  double each = gate->warps ? (double)gate->took / (double)gate->warps : FIRST_COST_NS, cost = each * (double)warps;
  return cost < (double)DEAREST_NS ? (uint64_t)cost : DEAREST_NS;
}

/* Where in its own period the slice is: 0 at the start of its turn. */
static uint64_t phase(turn_t turn, uint64_t now) {
  return (now % GATE_PERIOD_NS + GATE_PERIOD_NS - turn.start % GATE_PERIOD_NS) % GATE_PERIOD_NS;
}

/* Work that went on long after the turn's end was the others' time. Each turn pays back as much as it is long. */
static void reckon(gate_t *gate, turn_t turn, uint64_t began) {
  if (gate->reckoned == began) return;
  uint64_t turns = (began - gate->reckoned) / GATE_PERIOD_NS, paid, end = began - GATE_PERIOD_NS + turn.length;
  if (began < gate->reckoned || __builtin_mul_overflow(turns, turn.length, &paid)) paid = UINT64_MAX;
  gate->owed = gate->owed > paid ? gate->owed - paid : 0;
  uint64_t done = least(gate->busy_until, began);
  if (began > GATE_PERIOD_NS && done > end + gate->last / 2) gate->owed += done - end - gate->last / 2;
  gate->owed = least(gate->owed, MOST_OWED_NS);
  gate->reckoned = began;
}

uint64_t gate_ask(gate_t *gate, turn_t turn, uint64_t now, uint64_t warps, bool *behind) {
  *behind = false;
  if (turn.length >= GATE_PERIOD_NS) return 0;
  uint64_t at = phase(turn, now), rest = GATE_PERIOD_NS - at;
  reckon(gate, turn, now - at);
  if (at >= turn.length || gate->owed >= turn.length) return rest;
  if (at < gate->owed) return gate->owed - at;
  uint64_t left = turn.length - at, half = cost_of(gate, warps) / 2;
  uint64_t ahead = gate->busy_until > now ? gate->busy_until - now : 0;
  bool never_fits = half > turn.length / 2 && at <= turn.length / 2 && !ahead;
  if (ahead + half > left && !never_fits) return rest;
  bool unknown = !gate->warps && gate->untimed >= GATE_UNTIMED;
  if (ahead <= GATE_AHEAD_NS && !unknown) return 0;
  *behind = true;
  return most(ahead > GATE_AHEAD_NS ? ahead - GATE_AHEAD_NS : 0, LEAST_WAIT_NS);
}

bool gate_launched(gate_t *gate, uint64_t now, uint64_t warps) {
  gate->last = cost_of(gate, warps);
  gate->busy_until = most(gate->busy_until, now) + gate->last;
  gate->launched += warps;
  gate->untimed += !gate->warps;
  bool timed = !gate->warps || cost_of(gate, gate->launched - gate->timed) >= GATE_TIMED_NS;
  if (timed) gate->timed = gate->launched;
  return timed;
}

void gate_done(gate_t *gate, uint64_t upto, uint64_t now, uint64_t warps, uint64_t took) {
  if (took) {
    gate->took = FADING(gate->took) + least(took, DEAREST_NS);
    gate->warps = FADING(gate->warps) + warps;
  }
  gate->busy_until = least(gate->busy_until, now + cost_of(gate, gate->launched - upto));
}

void gate_not_done(gate_t *gate, uint64_t upto, uint64_t now) {
  gate->busy_until = most(gate->busy_until, now + cost_of(gate, gate->launched - upto));
}
