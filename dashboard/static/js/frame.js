// The head of the page, its sums, its notices and the sign-in.
import { Component, html } from "./html.js";
import { bytes, count, number, percent, room } from "./format.js";
import { signedIn, signIn, signOut } from "./live.js";
import { Bar } from "./lists.js";

export function Head({ link, source }) {
  const stale = link.kind === "live" && !source.connected;
  const kind = stale ? "lost" : link.kind;
  const word = stale ? "not current" : { live: "Live", polling: "Polling", lost: "Disconnected", connecting: "Connecting" }[kind];
  return html`<header class="top"><img src="static/icon.svg" alt="" width="28" height="28" /><h1>Tessera</h1>
    <p class="sub">GPU slices of this cluster</p>
    <p id="link" class=${`status ${kind}`} role="status"><i aria-hidden="true"></i>${word}${kind === "polling" && html` <span class="small">${link.text}</span>`}</p>
    ${signedIn() && html`<button type="button" class="plain" onClick=${signOut}>Sign out</button>`}</header>`;
}

export function Notices({ link, source, listing, known }) {
  const lines = [];
  if (link.kind === "lost" && known) lines.push(`Disconnected: ${link.text}. What you see is the last known state; trying again.`);
  else if (link.kind === "lost") lines.push(`Disconnected: ${link.text}. Trying again.`);
  if (known && !source.connected) lines.push(`The API server is not being followed: ${source.message}. What you see may be old.`);
  if (listing) lines.push(`Not ready yet: ${source.message}.`);
  return lines.map((line) => html`<p class="notice" role="alert" key=${line}>${line}</p>`);
}

export function Totals({ totals: t }) {
  const tiles = [
    ["Memory given", `${percent(t.allocated_bytes, t.mem_bytes)}%`, `${bytes(t.allocated_bytes)} of ${bytes(t.mem_bytes)}`, [t.allocated_bytes, t.mem_bytes]],
    ["Compute given", `${percent(t.core_percent, t.gpus * 100)}%`, `${number(t.core_percent)} of ${number(t.gpus * 100)} points`, [t.core_percent, t.gpus * 100]],
    ["GPUs", number(t.gpus), `on ${count(t.nodes, "node")} · ${number(t.idle_gpus)} idle${t.client_nodes ? ` · for ${count(t.client_nodes, "client node")}` : ""}`, null, t.unhealthy_gpus && `${number(t.unhealthy_gpus)} unhealthy`],
    ["Pods running", number(t.running_pods), `of ${number(t.pods)}`, null, t.waiting_pods && `${number(t.waiting_pods)} waiting`],
    ["Largest free slice", t.largest_free_bytes ? room(t.largest_free_bytes) : "none", `${bytes(t.free_bytes)} free in all`, null, t.overcommitted_gpus && `${number(t.overcommitted_gpus)} GPUs over-committed`],
  ];
  return html`<section class="totals" aria-label="The pool in sum">${tiles.map(([name, value, more, bar, warning]) => html`<div class="tile" key=${name} data-total=${name}>
    <p class="tile-name">${name}</p><p class="tile-value">${value}</p><p class="tile-more">${more}</p>
    ${bar && html`<${Bar} part=${bar[0]} whole=${bar[1]} label=${name} />`}${warning ? html`<p class="tile-warning">${warning}</p>` : null}</div>`)}</section>`;
}

export class SignIn extends Component {
  onSubmit = (event) => {
    event.preventDefault();
    if (this.field.value.trim()) signIn(this.field.value);
  };

  render({ refused }) {
    const tried = refused.status === 403 || signedIn();
    return html`<main class="sign-in"><form class="card" onSubmit=${this.onSubmit}>
      <img src="static/icon.svg" alt="" width="40" height="40" /><h1>Tessera</h1>
      <p>This dashboard asks for a Kubernetes bearer token of somebody who may <code>get gpunodes</code>.</p>
      <p class="muted">For example <code>kubectl create token NAME</code></p>
      ${tried && html`<p class="notice" role="alert">${refused.text}</p>`}
      <label for="token">Token</label>
      <input id="token" type="password" autocomplete="off" spellcheck="false" required ref=${(el) => { this.field = el; }} />
      <button type="submit">Sign in</button></form></main>`;
  }
}
