// The pool drawn on a canvas: one cell a GPU, grouped by node. Layout is pure; drawing takes a layout and colours.

const STEPS = [
  { most: 96, cell: 54, gap: 4, label: 20 },
  { most: 400, cell: 28, gap: 3, label: 18 },
  { most: 1500, cell: 18, gap: 2, label: 15 },
  { most: 5000, cell: 12, gap: 2, label: 0 },
  { most: 14000, cell: 8, gap: 1, label: 0 },
  { most: Infinity, cell: 5, gap: 1, label: 0 },
];
const ACROSS = 8;
const LABEL_CHAR = 6.2;
const PALEST = 0.35;

/** Where each GPU's cell lies: {cells: [{gpu, x, y}], labels, width, height, cell, gap}. */
export function layout(gpus, width) {
  const { cell, gap, label } = STEPS.find((step) => gpus.size <= step.most);
  const between = label ? 18 : gap * 3 + 2;
  const cells = [];
  const labels = [];
  let x = 0;
  let y = 0;
  let lineHeight = 0;
  for (const [node, members] of byNode(gpus)) {
    const across = Math.min(ACROSS, members.length, Math.max(1, Math.floor((width + gap) / (cell + gap))));
    const cellsWidth = across * (cell + gap) - gap;
    const blockWidth = label ? Math.max(cellsWidth, Math.min(node.length * LABEL_CHAR, 4 * (cell + gap))) : cellsWidth;
    const blockHeight = label + Math.ceil(members.length / across) * (cell + gap) - gap;
    if (x > 0 && x + blockWidth > width) {
      x = 0;
      y += lineHeight + (label ? 16 : between);
      lineHeight = 0;
    }
    if (label) labels.push({ node, x, y: y + label - 7, width: blockWidth });
    members.forEach((gpu, i) => {
      cells.push({ gpu, x: x + (i % across) * (cell + gap), y: y + label + Math.floor(i / across) * (cell + gap) });
    });
    x += blockWidth + between;
    lineHeight = Math.max(lineHeight, blockHeight);
  }
  return { cells, labels, width, height: y + lineHeight + 2, cell, gap };
}

function byNode(gpus) {
  const groups = new Map();
  for (const gpu of gpus.values()) {
    const group = groups.get(gpu.node);
    if (group) group.push(gpu);
    else groups.set(gpu.node, [gpu]);
  }
  const order = [...groups].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }));
  for (const [, members] of order) members.sort((a, b) => a.index - b.index);
  return order;
}

/** The share that is given, 0..1 or above, by memory or by compute. */
export function shareOf(gpu, measure) {
  if (measure === "compute") return gpu.core_percent / 100;
  if (gpu.mem_bytes > 0) return gpu.allocated_bytes / gpu.mem_bytes;
  return gpu.allocated_bytes > 0 ? 2 : 0;
}

export function isOver(gpu) {
  return gpu.allocated_bytes > gpu.mem_bytes || gpu.core_percent > 100;
}

/** Index of the cell at a point, or -1. */
export function cellAt(plan, x, y) {
  return plan.cells.findIndex((c) => x >= c.x && x < c.x + plan.cell + plan.gap && y >= c.y && y < c.y + plan.cell + plan.gap);
}

/** The cell reached from `index` by an arrow key. */
export function step(plan, index, key) {
  const from = plan.cells[index];
  if (key === "End") return plan.cells.length - 1;
  if (!from) return plan.cells.length ? 0 : -1;
  if (key === "ArrowRight") return Math.min(index + 1, plan.cells.length - 1);
  if (key === "ArrowLeft") return Math.max(index - 1, 0);
  if (key === "Home") return 0;
  const down = key === "ArrowDown";
  let best = index;
  let distance = Infinity;
  plan.cells.forEach((cell, i) => {
    const dy = down ? cell.y - from.y : from.y - cell.y;
    if (dy <= 0) return;
    const far = dy * 4 + Math.abs(cell.x - from.x);
    if (far < distance) {
      distance = far;
      best = i;
    }
  });
  return best;
}

/** The colours of the current theme, from the style sheet. */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return {
    ramp: [0, 1, 2, 3, 4].map((i) => rgb(read(`--ramp-${i}`))),
    track: read("--track"), line: read("--card"), text: read("--muted"), bad: read("--bad"), over: read("--over"),
    focus: read("--focus"), onLight: read("--on-light"), onDark: read("--on-dark"), dim: read("--card"),
  };
}

function rgb(hex) {
  return [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
}

/** The ramp's colour for a share of 0..1. */
function rampColour(ramp, share) {
  const at = Math.max(0, Math.min(1, share)) * (ramp.length - 1);
  const low = Math.min(ramp.length - 2, Math.floor(at));
  const mixed = ramp[low].map((value, i) => Math.round(value + (ramp[low + 1][i] - value) * (at - low)));
  return { css: `rgb(${mixed.join(" ")})`, light: 0.3 * mixed[0] + 0.59 * mixed[1] + 0.11 * mixed[2] > 140 };
}

/** Draws the whole plan. `mark` is the index of the cell under the cursor, `node` the node to bring out. */
export function draw(canvas, plan, palette, { measure, mark, gpu, node }) {
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  const pixels = [Math.round(plan.width * ratio), Math.round(plan.height * ratio)];
  if (canvas.width !== pixels[0]) canvas.width = pixels[0];
  if (canvas.height !== pixels[1]) canvas.height = pixels[1];
  canvas.style.width = `${plan.width}px`;
  canvas.style.height = `${plan.height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, plan.width, plan.height);
  drawLabels(context, plan, palette, node);
  plan.cells.forEach((cell, index) => {
    context.globalAlpha = node && cell.gpu.node !== node ? 0.25 : 1;
    drawCell(context, plan.cell, cell, palette, measure);
    if (index === mark || cell.gpu.uuid === gpu) outline(context, plan, cell, palette.focus);
  });
  context.globalAlpha = 1;
}

function drawLabels(context, plan, palette, node) {
  context.font = `${plan.cell > 20 ? 12 : 11}px system-ui, sans-serif`;
  context.fillStyle = palette.text;
  for (const label of plan.labels) {
    context.globalAlpha = node && label.node !== node ? 0.35 : 1;
    context.fillText(fitted(context, label.node, label.width + 10), label.x, label.y);
  }
  context.globalAlpha = 1;
}

function fitted(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let kept = text;
  while (kept.length > 1 && context.measureText(`…${kept}`).width > width) kept = kept.slice(1);
  return `…${kept}`;
}

function drawCell(context, size, { gpu, x, y }, palette, measure) {
  const share = shareOf(gpu, measure);
  const colour = isOver(gpu) ? { css: palette.over, light: false } : rampColour(palette.ramp, share);
  const radius = size >= 18 ? Math.min(5, size / 7) : 0;
  context.fillStyle = size >= 28 ? palette.track : colour.css;
  box(context, x, y, size, size, radius);
  if (size >= 28) drawSlices(context, size, gpu, x, y, colour, palette, measure, radius);
  if (!gpu.healthy) drawIll(context, size, x, y, palette, radius);
  else if (size >= 40) drawShare(context, size, x, y, share, colour, palette);
}

/** A large cell is filled from below, slice by slice, like a tile of a mosaic. */
function drawSlices(context, size, gpu, x, y, colour, palette, measure, radius) {
  context.save();
  context.beginPath();
  context.roundRect(x, y, size, size, radius);
  context.clip();
  // The palest colours are the track's own: a small slice must still be seen.
  const seen = isOver(gpu) ? colour.css : rampColour(palette.ramp, Math.max(PALEST, shareOf(gpu, measure))).css;
  let bottom = y + size;
  for (const tenant of gpu.tenants) {
    const part = measure === "compute" ? tenant.core_percent / 100 : tenant.mem_bytes / Math.max(1, gpu.mem_bytes);
    const height = Math.min(size, part * size);
    context.fillStyle = seen;
    context.fillRect(x, bottom - height, size, height);
    bottom -= height;
    context.fillStyle = palette.line;
    if (height > 3) context.fillRect(x, bottom, size, 1);
  }
  context.restore();
}

function drawShare(context, size, x, y, share, colour, palette) {
  context.font = "600 12px system-ui, sans-serif";
  context.textAlign = "center";
  context.fillStyle = share < 0.55 ? palette.text : colour.light ? palette.onLight : palette.onDark;
  const at = share < 0.55 ? y + 17 : y + size / 2 + 4;
  if (share >= 0.55) {
    // Keeps the lines between slices from crossing the number.
    context.strokeStyle = colour.css;
    context.lineWidth = 4;
    context.strokeText(`${Math.round(share * 100)}%`, x + size / 2, at);
  }
  context.fillText(`${Math.round(share * 100)}%`, x + size / 2, at);
  context.textAlign = "start";
}

function drawIll(context, size, x, y, palette, radius) {
  context.save();
  context.beginPath();
  context.roundRect(x, y, size, size, radius);
  context.clip();
  context.strokeStyle = palette.bad;
  context.lineWidth = size >= 12 ? 2 : 1.5;
  const pitch = size >= 28 ? 9 : Math.max(4, size / 2);
  for (let at = -size; at < size * 2; at += pitch) {
    context.beginPath();
    context.moveTo(x + at, y + size);
    context.lineTo(x + at + size, y);
    context.stroke();
  }
  context.strokeRect(x + 0.5, y + 0.5, size - 1, size - 1);
  context.restore();
}

function outline(context, plan, cell, colour) {
  context.globalAlpha = 1;
  context.strokeStyle = colour;
  context.lineWidth = 2;
  context.strokeRect(cell.x - 1, cell.y - 1, plan.cell + 2, plan.cell + 2);
}

function box(context, x, y, width, height, radius) {
  if (radius < 1) {
    context.fillRect(x, y, width, height);
    return;
  }
  context.beginPath();
  context.roundRect(x, y, width, height, radius);
  context.fill();
}
