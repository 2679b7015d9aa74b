// Starts the page: draws the state whenever it changes and keeps it fresh.
import { html, render } from "./html.js";
import { Head, Notices, SignIn, Totals } from "./frame.js";
import { Leases } from "./leases.js";
import { Nodes, Pods, Waiting } from "./lists.js";
import { follow } from "./live.js";
import { Chosen, GpuTable, HeatMap, Legend } from "./pool.js";
import { onChange, set, state } from "./store.js";

const AGES_MS = 30000;

function App() {
  const s = state;
  if (s.refused) return html`<${SignIn} refused=${s.refused} />`;
  const known = s.totals !== null && s.synced;
  return html`<${Head} link=${s.link} source=${s.source} />
    <main data-version=${s.version}>
      <${Notices} link=${s.link} source=${s.source} listing=${s.totals !== null && !s.synced} known=${known} />
      ${known && html`<${Totals} totals=${s.totals} />
        <section class="card" aria-labelledby="pool-title">
          <header class="card-head"><h2 id="pool-title">Pool</h2><${Legend} measure=${s.measure} /></header>
          ${s.gpus.size === 0 ? html`<p class="empty">No GPUs yet. A node appears here when its device plugin has published its GPUs.</p>`
          : html`<${HeatMap} gpus=${s.gpus} measure=${s.measure} gpu=${s.gpu} node=${s.node} />
            <${Chosen} gpu=${s.gpus.get(s.gpu)} />
            <${GpuTable} gpus=${s.gpus} open=${s.tableOpen} page=${s.tablePage} />`}
        </section>
        <div class="columns">
          <${Waiting} pods=${s.pods} />
          <${Nodes} nodes=${s.nodes} text=${s.nodeText} rows=${s.nodeRows} chosen=${s.node} />
        </div>
        ${(s.leases.size > 0 || s.totals.client_nodes > 0) && html`<${Leases} leases=${s.leases} text=${s.leaseText} rows=${s.leaseRows} node=${s.node} gpu=${s.gpu} />`}
        <${Pods} pods=${s.pods} text=${s.podText} kind=${s.podKind} rows=${s.podRows} node=${s.node} gpu=${s.gpu} />`}
    </main>`;
}

const root = document.getElementById("app");
root.textContent = "";
const drawAll = () => render(html`<${App} />`, root);
onChange(drawAll);
drawAll();
setInterval(() => set({}), AGES_MS);
follow();
