// The page's state: what the server said, and what the reader chose. Views are drawn from it and from nothing else.
export const state = {
  gpus: new Map(),
  nodes: new Map(),
  pods: new Map(),
  leases: new Map(),
  totals: null,
  version: "",
  synced: false,
  source: { connected: true, message: "" },
  link: { kind: "connecting", text: "connecting" },
  refused: null,
  measure: "memory",
  gpu: "",
  node: "",
  podText: "",
  podKind: "all",
  podRows: 25,
  leaseText: "",
  leaseRows: 25,
  nodeText: "",
  nodeRows: 15,
  tableOpen: false,
  tablePage: 0,
};

let listener = () => {};
let scheduled = false;

export function onChange(callback) {
  listener = callback;
}

/** Merges `patch` and redraws once in the next frame. */
export function set(patch) {
  Object.assign(state, patch);
  if (scheduled) return;
  scheduled = true;
  const draw = () => {
    scheduled = false;
    listener();
  };
  // A hidden page gets no frames, but must still be right when it is shown.
  if (document.hidden) setTimeout(draw, 50);
  else requestAnimationFrame(draw);
}

const nameKey = (object) => `${object.namespace}/${object.name}`;

/** Takes a whole snapshot as the server sends it. */
export function takeSnapshot(body) {
  set({
    gpus: new Map(body.gpus.map((gpu) => [gpu.uuid, gpu])),
    nodes: new Map(body.nodes.map((node) => [node.name, node])),
    pods: new Map(body.pods.map((pod) => [nameKey(pod), pod])),
    leases: new Map(body.leases.map((lease) => [nameKey(lease), lease])),
    totals: body.totals,
    version: body.version,
    synced: body.synced,
    source: body.source,
    refused: null,
  });
}

/** Applies the changes of one event. The maps are replaced, so that a view can tell by identity that they changed. */
export function takeChanges({ version, changes }) {
  set({
    gpus: merged(state.gpus, changes.gpus, (gpu) => gpu.uuid, changes.gone_gpus),
    nodes: merged(state.nodes, changes.nodes, (node) => node.name, changes.gone_nodes),
    pods: merged(state.pods, changes.pods, nameKey, changes.gone_pods),
    leases: merged(state.leases, changes.leases, nameKey, changes.gone_leases),
    totals: changes.totals,
    version,
    synced: true,
  });
}

function merged(old, changed, keyOf, gone) {
  if (!changed.length && !gone.length) return old;
  const next = new Map(old);
  for (const value of changed) next.set(keyOf(value), value);
  for (const key of gone) next.delete(key);
  return next;
}
