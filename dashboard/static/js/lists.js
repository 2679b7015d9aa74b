// Nodes, pods, and why pods wait.
import { html } from "./html.js";
import { age, bytes, count, LEVELS, number, percent } from "./format.js";
import { set, state } from "./store.js";

const MORE = 100;
const SHOWN_WAITING = 6;

export function Bar({ part, whole, label }) {
  const share = percent(part, whole);
  return html`<span class="bar" role="img" aria-label=${`${label}: ${share}%`}>
    <span class=${part > whole ? "fill over" : "fill"} style=${{ width: `${Math.min(100, share)}%` }}></span></span>`;
}

export function Nodes({ nodes, text, rows, chosen }) {
  const wanted = text.trim().toLowerCase();
  const found = [...nodes.values()].filter((n) => !wanted || `${n.name} ${Object.keys(n.models).join(" ")}`.toLowerCase().includes(wanted));
  return html`<section class="card" aria-labelledby="nodes-title">
    <header class="card-head"><h2 id="nodes-title">Nodes <span class="tally">${number(found.length)}</span></h2>
      <input type="search" placeholder="Filter nodes" aria-label="Filter nodes" value=${text}
        onInput=${(event) => set({ nodeText: event.target.value, nodeRows: 15 })} /></header>
    ${found.length === 0 ? html`<p class="empty">${nodes.size ? "No node matches." : "No node reports GPUs yet."}</p>`
    : html`<div class="scroll"><table id="nodes">
      <thead><tr><th scope="col">Node</th><th scope="col">GPUs</th><th scope="col">Memory</th><th scope="col" class="num">Compute</th><th scope="col" class="num">Pods</th><th scope="col">Held by</th></tr></thead>
      <tbody>${found.slice(0, rows).map((node) => html`<${NodeRow} key=${node.name} node=${node} chosen=${chosen === node.name} />`)}</tbody></table></div>`}
    <${More} shown=${Math.min(rows, found.length)} total=${found.length} onMore=${() => set({ nodeRows: rows + MORE })} />
  </section>`;
}

function NodeRow({ node, chosen }) {
  return html`<tr class=${chosen ? "chosen-row" : ""} data-node=${node.name}>
    <th scope="row"><button type="button" class="link" aria-pressed=${chosen} title="Show only this node"
      onClick=${() => set({ node: chosen ? "" : node.name, podRows: 25 })}>${node.name}</button></th>
    ${node.gpus === 0 && node.client_slots > 0 ? html`<${Slots} node=${node} />` : html`
    <td>${Object.entries(node.models).map(([model, count]) => `${count} × ${model}`).join(", ") || "unknown"}${node.unhealthy_gpus > 0 && html` <span class="tag bad">${node.unhealthy_gpus} unhealthy</span>`}</td>
    <td class="gauge"><${Bar} part=${node.allocated_bytes} whole=${node.mem_bytes} label="memory given" />
      <span class="small">${bytes(node.allocated_bytes)} of ${bytes(node.mem_bytes)}</span></td>
    <td class="num">${percent(node.core_percent, node.gpus * 100)}%</td><td class="num">${node.pods}</td><td>${LEVELS[node.level] ?? node.level}</td>`}</tr>`;
}

/** A node without GPUs: what it has for containers whose slices are elsewhere. */
function Slots({ node }) {
  return html`<td><span class="tag" title="Its pods have their slices on other nodes">client node</span></td>
    <td class="gauge"><${Bar} part=${node.used_slots} whole=${node.client_slots} label="slots used" />
      <span class="small">${number(node.used_slots)} of ${count(node.client_slots, "slot")}</span></td>
    <td class="num">–</td><td class="num">${node.pods}</td><td>–</td>`;
}

const KINDS = [
  ["all", "All", () => true],
  ["running", "Running", (pod) => pod.phase === "Running"],
  ["waiting", "Waiting", (pod) => pod.waiting],
  ["ended", "Ended", (pod) => pod.phase === "Succeeded" || pod.phase === "Failed"],
];

export function Pods({ pods, text, kind, rows, node, gpu }) {
  const wanted = text.trim().toLowerCase();
  const ofKind = KINDS.find(([name]) => name === kind)[2];
  const found = [...pods.values()].filter((pod) => ofKind(pod) && (!node || pod.node === node) &&
    (!gpu || pod.gpus.some((share) => share.uuid === gpu)) && (!wanted || searchable(pod).includes(wanted)));
  // Waiting pods come first: they are what somebody is looking for. The sort is stable, so names stay in order.
  found.sort((a, b) => Number(b.waiting) - Number(a.waiting));
  return html`<section class="card" aria-labelledby="pods-title">
    <header class="card-head"><h2 id="pods-title">Pods <span class="tally">${number(found.length)}</span></h2>
      <div class="switch" role="group" aria-label="Which pods">${KINDS.map(([name, label]) => html`<button type="button"
        aria-pressed=${kind === name} onClick=${() => set({ podKind: name, podRows: 25 })}>${label}</button>`)}</div>
      <${Filters} node=${node} gpu=${gpu} />
      <input type="search" placeholder="Filter pods" aria-label="Filter pods" value=${text}
        onInput=${(event) => set({ podText: event.target.value, podRows: 25 })} /></header>
    ${found.length === 0 ? html`<p class="empty">${pods.size ? "No pod matches." : html`No pod asks for a slice yet. Try <code>tessera.io/gpu-mem: 4Gi</code> in a container's limits.`}</p>`
    : html`<div class="scroll"><table id="pods"><thead><tr><th scope="col">Pod</th><th scope="col">Phase</th><th scope="col">Asks for</th>
        <th scope="col">Holds</th><th scope="col">Node</th><th scope="col" class="num">Age</th></tr></thead>
      <tbody>${found.slice(0, rows).map((pod) => html`<${PodRow} key=${`${pod.namespace}/${pod.name}`} pod=${pod} />`)}</tbody></table></div>`}
    <${More} shown=${Math.min(rows, found.length)} total=${found.length} onMore=${() => set({ podRows: rows + MORE })} />
  </section>`;
}

/** What the lists are cut down to, each to be undone. */
export function Filters({ node, gpu }) {
  return html`${node && html`<button type="button" class="chip" onClick=${() => set({ node: "" })} aria-label=${`Stop filtering by node ${node}`}>node ${node} ✕</button>`}
    ${gpu && html`<button type="button" class="chip" onClick=${() => set({ gpu: "" })} aria-label="Stop filtering by GPU">one GPU ✕</button>`}`;
}

function searchable(pod) {
  return `${pod.namespace}/${pod.name} ${pod.client || pod.serves} ${pod.node} ${pod.phase} ${pod.reason} ${pod.gpus.map((g) => `${g.uuid} ${g.node}`).join(" ")}`.toLowerCase();
}

function PodRow({ pod }) {
  const phase = pod.waiting ? "Waiting" : pod.phase;
  return html`<tr data-pod=${`${pod.namespace}/${pod.name}`} data-phase=${phase}>
    <th scope="row"><span class="ns">${pod.namespace}/</span>${pod.name}${pod.serves && html` <span class="tag" title=${`GPULease ${pod.serves}`}>computes for ${pod.client || pod.serves}</span>`}</th>
    <td><span class=${`phase ${phase.toLowerCase()}`}>${phase}</span>${pod.reason && !pod.waiting && html` <span class="small" title=${pod.message}>${pod.reason}</span>`}</td>
    <td>${asked(pod.asks) || "–"}</td><td><${Holds} pod=${pod} /></td><td>${pod.node || "–"}</td><td class="num">${age(pod.created)}</td></tr>`;
}

function Holds({ pod }) {
  if (!pod.gpus.length) return html`<span class="muted">${pod.waiting ? pod.reason : "–"}</span>`;
  return pod.gpus.map((share) => html`<button type="button" class="chip" title=${share.uuid} onClick=${() => set({ gpu: share.uuid })}>
    ${place(share.uuid)}${share.node && ` on ${share.node}`} · ${share.whole ? "whole" : bytes(share.mem_bytes)}${!share.whole && share.core_percent ? ` · ${share.core_percent}%` : ""}</button>`);
}

export function place(uuid) {
  const gpu = state.gpus.get(uuid);
  return gpu && gpu.index >= 0 ? `GPU ${gpu.index}` : "GPU ?";
}

const asked = (text) => text.replace(/(\d)(Ki|Mi|Gi|Ti)\b/g, "$1 $2B");

export function More({ shown, total, onMore }) {
  if (shown >= total) return null;
  return html`<p class="pager">${number(shown)} of ${number(total)} <button type="button" onClick=${onMore}>Show more</button></p>`;
}

/** Waiting pods, grouped by what they wait for. */
export function Waiting({ pods, rows = SHOWN_WAITING }) {
  const groups = new Map();
  for (const pod of pods.values()) {
    // What an executor waits for is said of its lease.
    if (!pod.waiting || pod.serves) continue;
    const cause = `${pod.reason}\n${pod.message}`;
    if (groups.has(cause)) groups.get(cause).push(pod);
    else groups.set(cause, [pod]);
  }
  const found = [...groups.values()].sort((a, b) => b.length - a.length);
  const total = found.reduce((sum, group) => sum + group.length, 0);
  return html`<section class="card" id="waiting" aria-labelledby="waiting-title">
    <header class="card-head"><h2 id="waiting-title">Why pods wait <span class="tally">${number(total)}</span></h2></header>
    ${found.length === 0 && html`<p class="empty good">Nothing waits. Every pod that asked for a slice has one.</p>`}
    ${found.slice(0, rows).map((group) => html`<article class="cause" key=${group[0].reason + group[0].message}>
      <p class="cause-title"><strong>${group[0].reason}</strong> <span class="tally">${count(group.length, "pod")}</span></p>
      <p class="says">${group[0].message || "no further word"}</p>
      <ul>${group.slice(0, 5).map((pod) => html`<li><span class="who">${pod.namespace}/${pod.name}</span> <span class="what">${[pod.asks && `asks for ${asked(pod.asks)}`, age(pod.created)].filter(Boolean).join(", ")}</span></li>`)}
        ${group.length > 5 && html`<li><button type="button" class="link" onClick=${() => set({ podKind: "waiting", podText: group[0].reason })}>and ${group.length - 5} more</button></li>`}</ul></article>`)}
    ${found.length > rows && html`<p class="pager"><button type="button" onClick=${() => set({ podKind: "waiting", podText: "" })}>${count(found.length - rows, "other cause")}: see the pods</button></p>`}
  </section>`;
}
