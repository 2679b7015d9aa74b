#include "gate.h"

#include "bounds.h"

#define FIRST_COST_NS 20 /* a warp, before anything was timed */
#define LEAST_WAIT_NS 20000ull
#define MOST_OWED_NS (100 * GATE_PERIOD_NS)
#define LEAST_TURN_NS (GATE_PERIOD_NS / 100) /* the shortest that anybody is given */
#define GUESSED_NS 1000000000ull /* the most that a launch is taken to cost before anything was timed */
#define DEAREST_NS MOST_OWED_NS
#define FADING(sum) ((sum) - (sum) / 8)

static uint64_t cost_of(const gate_t *gate, uint64_t warps) {
  double each = gate->warps ? (double)gate->took / (double)gate->warps : FIRST_COST_NS, cost = each * (double)warps;
  uint64_t dearest = gate->warps ? DEAREST_NS : GUESSED_NS;
  return cost < (double)dearest ? (uint64_t)cost : dearest;
}

/* Where in its own period the slice is: 0 at the start of its turn. */
static uint64_t phase(turn_t turn, uint64_t now) {
  return (now % GATE_PERIOD_NS + GATE_PERIOD_NS - turn.start % GATE_PERIOD_NS) % GATE_PERIOD_NS;
}

/* How much of its turns has passed by then. */
static uint64_t in_turns(turn_t turn, uint64_t now) {
  uint64_t shifted = now + GATE_PERIOD_NS - turn.start % GATE_PERIOD_NS;
  return shifted / GATE_PERIOD_NS * turn.length + least(shifted % GATE_PERIOD_NS, turn.length);
}

/* Counts the time until `upto` in which its work was on the GPU. What fits into a turn and ends a little later shares
 * the GPU with the next slice then, and counts by half; what never fits counts whole, so that others do not pay. */
static void spend(gate_t *gate, turn_t turn, uint64_t upto) {
  uint64_t from = most(gate->counted, gate->busy_since), to = least(gate->busy_until, upto);
  if (to > from) {
    uint64_t own = in_turns(turn, to) - in_turns(turn, from), others = to - from - own;
    gate->spent += own + (gate->last > turn.length ? others : others / 2);
  }
  gate->counted = most(gate->counted, upto);
}

/* At the start of a turn: what it had of the GPU since the last one, against its turns since then. A turn that ends
 * early, with no room for another launch, gives as much credit as the start of a launch may give debt. */
static void reckon(gate_t *gate, turn_t turn, uint64_t began) {
  if (gate->reckoned == began) return;
  uint64_t turns = began > gate->reckoned ? (began - gate->reckoned) / GATE_PERIOD_NS : 0;
  int64_t length = (int64_t)most(turn.length, LEAST_TURN_NS), most_turns = (int64_t)MOST_OWED_NS / length + 1;
  int64_t had = (int64_t)least(turns, (uint64_t)most_turns) * length;
  spend(gate, turn, began);
  gate->owed += (int64_t)least(gate->spent, MOST_OWED_NS) - had;
  if (gate->owed < -length / 2) gate->owed = -length / 2;
  if (gate->owed > (int64_t)MOST_OWED_NS) gate->owed = MOST_OWED_NS;
  gate->spent = 0;
  gate->reckoned = began;
}

/* 0: it may launch. */
static uint64_t wait_of(const gate_t *gate, turn_t turn, uint64_t now, uint64_t at, uint64_t warps, bool *behind) {
  uint64_t rest = GATE_PERIOD_NS - at, owed = gate->owed > 0 ? (uint64_t)gate->owed : 0;
  if (at >= turn.length || owed >= turn.length) return rest;
  if (at < owed) return owed - at;
  uint64_t left = turn.length - at, half = cost_of(gate, warps) / 2;
  uint64_t ahead = gate->busy_until > now ? gate->busy_until - now : 0;
  bool never_fits = half > turn.length / 2 && at <= turn.length / 2 && !ahead;
  if (ahead + half > left && !never_fits) return rest;
  bool unknown = !gate->warps && gate->untimed >= GATE_UNTIMED;
  if (ahead <= GATE_AHEAD_NS && !unknown) return 0;
  *behind = true;
  return most(ahead > GATE_AHEAD_NS ? ahead - GATE_AHEAD_NS : 0, LEAST_WAIT_NS);
}

uint64_t gate_ask(gate_t *gate, turn_t turn, uint64_t now, uint64_t warps, bool *behind) {
  *behind = false;
  if (turn.length >= GATE_PERIOD_NS) return 0;
  now = most(now, gate->counted); /* never back, whoever asks */
  uint64_t at = phase(turn, now);
  reckon(gate, turn, now - at);
  spend(gate, turn, now);
  uint64_t wait = wait_of(gate, turn, now, at, warps, behind);
  if (gate->owed > 0 || !gate->refused) gate->refused = now;
  return now - gate->refused < GATE_LONGEST_NS ? wait : 0;
}

bool gate_launched(gate_t *gate, uint64_t now, uint64_t warps) {
  if (gate->busy_until <= now) gate->busy_since = now;
  gate->last = cost_of(gate, warps);
  gate->busy_until = most(gate->busy_until, now) + gate->last;
  gate->refused = 0;
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
