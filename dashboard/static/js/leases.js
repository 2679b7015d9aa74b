// Slices on other nodes than their pods': which pod each is for, if any, where it is, and how far it has come.
import { html } from "./html.js";
import { age, bytes, number } from "./format.js";
import { Filters, More, place } from "./lists.js";
import { set } from "./store.js";

const MORE = 100;

/** Phases in words: short, and as a sentence. */
const PHASES = {
  Pending: ["no room yet", "No room has been found for it yet."],
  Reserved: ["kept", "Its room is kept. No executor serves yet."],
  Ready: ["ready", "An executor serves. The container may start."],
  Active: ["in use", "The container uses it."],
  Detached: ["not in use", "An executor serves, and no pod uses it."],
  Migrating: ["moving", "Its sessions are carried over to another executor, and go on there."],
  Lost: ["lost", "The executor is gone, and with it the session. Another is made."],
  Released: ["ending", "Nobody needs it any more. It goes with its executor."],
  Stopped: ["stopped", "Its users have stopped it. It has no room."],
};
const STOPS = ["stopping", "Its users have stopped it. Its room is given back once its executor is gone."];

export function Leases({ leases, text, rows, node, gpu }) {
  const wanted = text.trim().toLowerCase();
  const found = [...leases.values()].filter((lease) => (!node || [lease.node, lease.client_node, lease.target?.node].includes(node)) &&
    (!gpu || [lease.uuid, lease.target?.uuid].includes(gpu)) && (!wanted || searchable(lease).includes(wanted)));
  return html`<section class="card" aria-labelledby="leases-title">
    <header class="card-head"><h2 id="leases-title">Slices on other nodes <span class="tally">${number(found.length)}</span></h2>
      <${Filters} node=${node} gpu=${gpu} />
      <input type="search" placeholder="Filter leases" aria-label="Filter leases" value=${text}
        onInput=${(event) => set({ leaseText: event.target.value, leaseRows: 25 })} /></header>
    ${found.length === 0 ? html`<p class="empty">${leases.size ? "No lease matches." : html`No pod has its slice on another node. Try the annotation <code>tessera.io/remote: allowed</code>.`}</p>`
    : html`<div class="scroll"><table id="leases"><thead><tr><th scope="col">For</th><th scope="col">State</th><th scope="col">Slice</th>
        <th scope="col">Client node</th><th scope="col">Executor</th><th scope="col" class="num">Epoch</th><th scope="col" class="num">Age</th></tr></thead>
      <tbody>${found.slice(0, rows).map((lease) => html`<${LeaseRow} key=${`${lease.namespace}/${lease.name}`} lease=${lease} />`)}</tbody></table></div>`}
    <${More} shown=${Math.min(rows, found.length)} total=${found.length} onMore=${() => set({ leaseRows: rows + MORE })} />
  </section>`;
}

function searchable(lease) {
  return `${lease.namespace}/${lease.pod || lease.name} ${lease.name} ${lease.container} ${lease.client_node} ${lease.node} ${lease.uuid} ${lease.executor} ${lease.next} ${lease.target?.node ?? ""} ${lease.target?.uuid ?? ""} ${lease.phase} ${words(lease)[0]}`.toLowerCase();
}

function words(lease) {
  if (lease.ending) return PHASES.Released;
  if (lease.stopped && lease.node) return STOPS;
  return PHASES[lease.phase] ?? [lease.phase, ""];
}

/** Whom it is for; a lease that no pod uses goes by its own name. */
function Whom({ lease }) {
  return html`<span class="ns">${lease.namespace}/</span>${lease.pod || lease.name}${lease.container && html` <span class="ns small">${lease.container}</span>`}${lease.standing &&
    html` <span class="tag" title="Its users made it, and it stays until they delete it.">${lease.pod ? `lease ${lease.name}` : "lease"}</span>`}`;
}

function LeaseRow({ lease }) {
  const [word, sentence] = words(lease);
  return html`<tr data-lease=${`${lease.namespace}/${lease.name}`} data-phase=${lease.phase}>
    <th scope="row" title=${`GPULease ${lease.namespace}/${lease.name}`}><${Whom} lease=${lease} /></th>
    <td><span class=${`phase ${(lease.ending ? "released" : lease.phase).toLowerCase()}`} title=${sentence}>${word}</span>
      ${[lease.message, lease.unmoved].map((said) => said && html`<span class="small why">${said}</span>`)}</td>
    <td>${lease.node && html`<${Room} room=${lease} />`}<${Goal} lease=${lease} /></td>
    <td class=${lease.pod ? "" : "none"}>${lease.client_node || "no pod"}</td><td title=${lease.endpoint}>${lease.executor ? html`<${Executor} name=${lease.executor} />` : "–"}
      ${lease.next && html`<span class="goal">then <${Executor} name=${lease.next} /></span>`}</td>
    <td class="num">${lease.epoch}</td><td class="num">${age(lease.created)}</td></tr>`;
}

/** A part of a GPU, which can be looked at. */
function Room({ room }) {
  return html`<button type="button" class="chip" title=${room.uuid} onClick=${() => set({ gpu: room.uuid })}>${place(room.uuid)} on ${room.node} · ${amount(room)}</button>`;
}

/** Where a lease goes, or what its users want of it; nothing for one that stays as it is. */
function Goal({ lease }) {
  if (lease.target) return html`<span class="goal">moves to <${Room} room=${lease.target} /></span>`;
  const { wanted } = lease;
  if (!wanted || (wanted.mem_bytes === lease.mem_bytes && wanted.core_percent === lease.core_percent)) return null;
  const asked = lease.stopped ? "once started" : "asked for";
  return html`<span class="goal small">${asked}: ${amount(wanted)}${wanted.core_percent ? "" : " · no cap"}</span>`;
}

function amount({ mem_bytes, core_percent }) {
  return `${bytes(mem_bytes)}${core_percent ? ` · ${core_percent}%` : ""}`;
}

function Executor({ name }) {
  const [namespace, own] = name.split("/");
  return html`<span class="ns">${namespace}/</span><span class="mono">${short(own)}</span>`;
}

/** The name of an executor holds a UID. */
function short(name) {
  return name.length > 26 ? `${name.slice(0, 17)}…${name.slice(-6)}` : name;
}
