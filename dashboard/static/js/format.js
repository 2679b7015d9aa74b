// Numbers and names as people read them.
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** 4294967296 -> "4 GiB"; at most one decimal. */
export function bytes(value) {
  let unit = 0;
  let amount = value;
  while (amount >= 1024 && unit < UNITS.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  const text = amount >= 100 || Number.isInteger(amount) ? Math.round(amount) : amount.toFixed(1).replace(/\.0$/, "");
  return `${text} ${UNITS[unit]}`;
}

/** As `bytes`, but never more than there is: a slice of what this says fits. */
export function room(value) {
  let step = 1;
  while (value / step >= 1024 && step < 1024 ** (UNITS.length - 1)) step *= 1024;
  return bytes(value / step >= 100 ? Math.floor(value / step) * step : (Math.floor((value * 10) / step) / 10) * step);
}

export function count(value, one, many = `${one}s`) {
  return `${number(value)} ${value === 1 ? one : many}`;
}

const grouped = new Intl.NumberFormat("en");
export const number = (value) => grouped.format(value);

/** A share in whole percent; anything above nothing is at least 1, anything below all at most 99. */
export function percent(part, whole) {
  if (whole <= 0) return part > 0 ? 100 : 0;
  const share = (100 * part) / whole;
  if (share > 0 && share < 1) return 1;
  if (share > 99 && share < 100) return 99;
  return Math.round(share);
}

/** "GPU-1f0c…9a2e": enough to recognise. */
export function shortUuid(uuid) {
  return uuid.length > 17 ? `${uuid.slice(0, 8)}…${uuid.slice(-4)}` : uuid;
}

export function age(created, now = Date.now()) {
  const seconds = Math.max(0, Math.floor((now - Date.parse(created)) / 1000));
  if (!created || Number.isNaN(seconds)) return "";
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86400)}d`;
}

export const LEVELS = { "-1": "none", 0: "watched", 1: "MPS", 2: "partition", 3: "driver" };
