// Keeps the state fresh: one snapshot, then the stream of changes; where a stream does not come through, polling.
import { set, state, takeChanges, takeSnapshot } from "./store.js";

const POLL_MS = 5000;
const FIRST_EVENT_MS = 6000;
const SILENCE_MS = 45000;
const STREAM_AGAIN_MS = 60000;
const LONGEST_WAIT_MS = 15000;
const TOKEN = "tessera-token";

let tag = "";
let wake = () => {};

export function signIn(token) {
  sessionStorage.setItem(TOKEN, token.trim());
  tag = "";
  set({ refused: null });
  wake();
}

export function signOut() {
  sessionStorage.removeItem(TOKEN);
  location.reload();
}

export const signedIn = () => Boolean(sessionStorage.getItem(TOKEN));

/** Runs for as long as the page is open. */
export async function follow() {
  let failures = 0;
  let broken = 0;
  let lastTry = 0;
  for (;;) {
    try {
      await readSnapshot();
      failures = 0;
      const now = Date.now();
      if (broken < 2 || now - lastTry > STREAM_AGAIN_MS) {
        lastTry = now;
        broken = (await readStream()) ? 0 : broken + 1;
      }
      if (broken >= 2) {
        set({ link: { kind: "polling", text: "every 5 s" } });
        await pause(POLL_MS);
      }
    } catch (error) {
      failures += 1;
      broken = 0; // streams that ended with the dashboard say nothing about the one that comes after it
      const wait = Math.min(LONGEST_WAIT_MS, 1000 * 2 ** (failures - 1));
      refuse(error);
      await pause(error.status === 401 || error.status === 403 ? 3600e3 : wait);
    }
  }
}

function refuse(error) {
  if (error.status === 401 || error.status === 403) {
    set({ refused: { status: error.status, text: error.message }, link: { kind: "lost", text: "signed out" } });
  } else {
    set({ link: { kind: "lost", text: error.status ? error.message : "the dashboard does not answer" } });
  }
}

function pause(ms) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    wake = () => {
      clearTimeout(timer);
      resolve();
    };
  });
}

async function ask(path, extra = {}, signal = undefined) {
  const headers = { ...extra };
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(`api/v1/${path}`, { headers, signal, cache: "no-store" });
  if (answer.ok || answer.status === 304) return answer;
  const body = await answer.json().catch(() => null);
  const error = new Error(body?.error?.message ?? `the dashboard answered ${answer.status}`);
  error.status = answer.status;
  throw error;
}

async function readSnapshot() {
  const answer = await ask("snapshot", tag ? { "If-None-Match": tag } : {});
  if (answer.status === 200) {
    takeSnapshot(await answer.json());
    tag = answer.headers.get("ETag") ?? "";
  }
}

/** Reads events until the stream ends; true if any came. */
async function readStream() {
  const control = new AbortController();
  let timer = setTimeout(() => control.abort(), FIRST_EVENT_MS);
  let came = false;
  try {
    const answer = await ask(`stream?since=${encodeURIComponent(state.version)}`, {}, control.signal);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return came;
      clearTimeout(timer);
      timer = setTimeout(() => control.abort(), SILENCE_MS);
      if (!came) set({ link: { kind: "live", text: "live" } });
      came = true;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      blocks.forEach(takeEvent);
    }
  } catch (error) {
    if (error.status) throw error;
    return came;
  } finally {
    clearTimeout(timer);
    control.abort();
    // What came by the stream is newer than the tag of the last snapshot.
    if (came) tag = "";
  }
}

function takeEvent(block) {
  let name = "";
  let data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (name === "change") takeChanges(JSON.parse(data));
  else if (name === "source") set({ source: JSON.parse(data) });
}
