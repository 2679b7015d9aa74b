// The heat map: a canvas with a cursor for mouse and keys, its legend, the chosen GPU, and the same as a table.
import { Component, html } from "./html.js";
import { bytes, count, LEVELS, percent, shortUuid } from "./format.js";
import { cellAt, colours, draw, isOver, layout, step } from "./heat.js";
import { set, state } from "./store.js";

const TABLE_ROWS = 50;
const TIP_TENANTS = 8;
const KEYS = ["ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown", "Home", "End"];

export class HeatMap extends Component {
  constructor(props) {
    super(props);
    this.state = { mark: -1 };
    this.plan = null;
    this.width = 0;
    this.redraw = this.redraw.bind(this);
  }

  componentDidMount() {
    this.resizes = new ResizeObserver(([entry]) => {
      const width = Math.floor(entry.contentRect.width);
      if (width === this.width) return;
      this.width = width;
      this.plan = null;
      this.redraw();
    });
    this.resizes.observe(this.frame);
    this.theme = matchMedia("(prefers-color-scheme: dark)");
    this.theme.addEventListener("change", this.redraw);
  }

  componentWillUnmount() {
    this.resizes.disconnect();
    this.theme.removeEventListener("change", this.redraw);
  }

  componentDidUpdate(before) {
    if (before.gpus !== this.props.gpus) this.plan = null;
    this.redraw();
  }

  redraw() {
    if (!this.width) return;
    this.plan ??= layout(this.props.gpus, this.width);
    const { measure, gpu, node } = this.props;
    draw(this.canvas, this.plan, colours(), { measure, gpu, node, mark: this.state.mark });
    this.canvas.dataset.cells = String(this.plan.cells.length);
    this.canvas.dataset.drawnVersion = state.version;
    if (this.tip) this.placeTip();
  }

  placeTip() {
    const cell = this.plan.cells[this.state.mark];
    if (!cell) return;
    const wide = this.tip.offsetWidth;
    const tall = this.tip.offsetHeight;
    const left = Math.max(0, Math.min(cell.x + this.plan.cell / 2 - wide / 2, this.width - wide));
    const top = cell.y - this.scroller.scrollTop;
    const below = top + this.plan.cell + 10;
    const above = top - tall - 6;
    const crowded = this.scroller.scrollHeight > this.scroller.clientHeight && below + tall > this.scroller.clientHeight;
    this.tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(crowded && above > 0 ? above : below)}px)`;
  }

  onMove = (event) => {
    const mark = this.plan ? cellAt(this.plan, event.offsetX, event.offsetY) : -1;
    if (mark !== this.state.mark) this.setState({ mark });
  };

  onKey = (event) => {
    if (!this.plan) return;
    if (KEYS.includes(event.key)) {
      const mark = step(this.plan, this.state.mark, event.key);
      this.show(mark);
      this.setState({ mark });
    } else if (event.key === "Enter" || event.key === " ") {
      this.choose();
    } else if (event.key === "Escape") {
      this.setState({ mark: -1 });
      set({ gpu: "" });
    } else {
      return;
    }
    event.preventDefault();
  };

  /** Scrolls the map so that a cell reached by keys is in view. */
  show(index) {
    const cell = this.plan.cells[index];
    const { scrollTop, clientHeight } = this.scroller;
    if (!cell || (cell.y >= scrollTop && cell.y + this.plan.cell <= scrollTop + clientHeight)) return;
    this.scroller.scrollTop = cell.y - clientHeight / 2;
  }

  choose = () => {
    const uuid = this.plan?.cells[this.state.mark]?.gpu.uuid ?? "";
    set({ gpu: uuid === state.gpu ? "" : uuid });
  };

  render({ gpus, gpu }, { mark }) {
    const marked = this.plan?.cells[mark]?.gpu;
    const current = marked && gpus.get(marked.uuid);
    const tip = current && current.uuid !== gpu;
    return html`<div class="heat"><div class="heat-scroll" tabindex="-1" ref=${(el) => { this.scroller = el; }}><div ref=${(el) => { this.frame = el; }}>
      <canvas ref=${(el) => { this.canvas = el; }} id="heat" tabindex="0" role="application"
        aria-label=${`Map of ${count(gpus.size, "GPU")}. Arrow keys move, Enter chooses a GPU.`} aria-describedby="heat-says"
        onMouseMove=${this.onMove} onMouseLeave=${() => this.setState({ mark: -1 })} onClick=${this.choose}
        onKeyDown=${this.onKey} onBlur=${() => this.setState({ mark: -1 })}></canvas></div></div>
      <p id="heat-says" class="unseen" aria-live="polite">${current ? spoken(current) : ""}</p>
      ${tip && html`<div class="tip" role="tooltip" ref=${(el) => { this.tip = el; }}><${GpuFacts} gpu=${current} most=${TIP_TENANTS} /></div>`}
    </div>`;
  }
}

function spoken(gpu) {
  const ill = gpu.healthy ? "" : `, unhealthy: ${gpu.health_reason}`;
  return `${gpu.model || "unknown GPU"} ${gpu.index + 1} on ${gpu.node}, ${percent(gpu.allocated_bytes, gpu.mem_bytes)}% of ` +
    `memory given to ${count(gpu.tenants.length, "slice")}${ill}`;
}

/** What a GPU is and who holds it. */
export function GpuFacts({ gpu, most = Infinity }) {
  const rest = gpu.tenants.length - most;
  return html`<div class="facts">
    <p class="facts-title"><strong>${gpu.model || "GPU that is gone"}</strong> <span>${gpu.node}${gpu.index >= 0 ? ` · GPU ${gpu.index}` : ""}</span></p>
    <p class="mono">${gpu.uuid}</p>
    ${!gpu.healthy && html`<p class="bad">✕ ${gpu.health_reason || "unhealthy"}</p>`}
    ${isOver(gpu) && html`<p class="bad">More is given than this GPU has.</p>`}
    <p>${bytes(gpu.allocated_bytes)} of ${bytes(gpu.mem_bytes)} given · compute ${gpu.core_percent}% · held by ${LEVELS[gpu.level] ?? gpu.level}</p>
    ${gpu.evidence && html`<p class="muted">Level ${gpu.level}: ${gpu.evidence}</p>`}
    ${gpu.conditions.map((one) => html`<p class="bad">${one.type}: ${one.message}</p>`)}
    ${gpu.tenants.length === 0 && html`<p class="muted">No slices.</p>`}
    ${gpu.tenants.length > 0 && html`<ul>${gpu.tenants.slice(0, most).map((tenant) => html`<li>
        <span class="who" title=${tenant.executor && `by executor ${tenant.executor}`}>${tenant.pod ? `${tenant.namespace}/${tenant.pod}` : tenant.lease}${tenant.lease && html` <span class="muted">${from(tenant)}</span>`}</span>
        <span class="what">${tenant.whole ? "whole GPU" : bytes(tenant.mem_bytes)}${!tenant.whole && tenant.core_percent ? ` · ${tenant.core_percent}%` : ""}</span></li>`)}
      ${rest > 0 && html`<li class="muted">and ${rest} more</li>`}</ul>`}
  </div>`;
}

/** Where the pod of a slice that is elsewhere runs, if there is one, and whether its slice is only kept. */
function from(tenant) {
  const lease = state.leases.get(tenant.lease);
  const where = tenant.pod ? `on ${lease?.client_node || "another node"}` : "lease for no pod now";
  return `${where}${tenant.executor ? "" : lease?.stopped ? ", stopping" : ", no executor yet"}`;
}

export function Legend({ measure }) {
  return html`<div class="legend">
    <div class="switch" role="group" aria-label="Colour by">
      ${["memory", "compute"].map((kind) => html`<button type="button" aria-pressed=${measure === kind}
        onClick=${() => set({ measure: kind })}>${kind === "memory" ? "Memory" : "Compute"}</button>`)}
    </div>
    <span class="scale" aria-hidden="true"><span>free</span><i class="ramp"></i><span>full</span></span>
    <span class="key" aria-hidden="true"><i class="ill"></i>unhealthy</span>
    <span class="key" aria-hidden="true"><i class="over"></i>over-committed</span>
  </div>`;
}

export function Chosen({ gpu }) {
  if (!gpu) return null;
  return html`<aside class="chosen" aria-label="Chosen GPU"><${GpuFacts} gpu=${gpu} />
    <button type="button" class="plain" onClick=${() => set({ gpu: "" })}>Close</button></aside>`;
}

/** The same numbers for those who do not see the map. */
export function GpuTable({ gpus, open, page }) {
  const pages = Math.max(1, Math.ceil(gpus.size / TABLE_ROWS));
  const at = Math.min(page, pages - 1);
  const rows = open ? [...gpus.values()].slice(at * TABLE_ROWS, (at + 1) * TABLE_ROWS) : [];
  return html`<details class="as-table" open=${open} onToggle=${(event) => set({ tableOpen: event.target.open })}>
    <summary>GPUs as a table</summary>
    ${open && html`<div class="scroll"><table id="gpu-table" aria-rowcount=${gpus.size}>
      <thead><tr><th scope="col">GPU</th><th scope="col">Node</th><th scope="col">Model</th><th scope="col" class="num">Given</th>
        <th scope="col" class="num">Memory</th><th scope="col" class="num">Compute</th><th scope="col" class="num">Slices</th><th scope="col">Health</th></tr></thead>
      <tbody>${rows.map((gpu) => html`<tr key=${gpu.uuid} data-gpu=${gpu.uuid}><th scope="row" class="mono" title=${gpu.uuid}>${shortUuid(gpu.uuid)}</th><td>${gpu.node}</td>
        <td>${gpu.model}</td><td class="num">${bytes(gpu.allocated_bytes)}</td><td class="num">${bytes(gpu.mem_bytes)}</td>
        <td class="num">${gpu.core_percent}%</td><td class="num">${gpu.tenants.length}</td>
        <td>${gpu.healthy ? "healthy" : html`<span class="bad">${gpu.health_reason || "unhealthy"}</span>`}</td></tr>`)}</tbody>
    </table></div>
    ${pages > 1 && html`<p class="pager"><button type="button" disabled=${at === 0} onClick=${() => set({ tablePage: at - 1 })}>Previous</button>
      page ${at + 1} of ${pages}
      <button type="button" disabled=${at + 1 >= pages} onClick=${() => set({ tablePage: at + 1 })}>Next</button></p>`}`}
  </details>`;
}
