"""Charts of a sweep's page, drawn in the browser: curves of the selected jobs, and their values against each key.

The page holds the data as JSON in the element `#charts-data`: `{"charts": [column, ...], "across": "epoch" or "step",
"monitor": column, "axes": [{"key", "log", "whole", "labels"}, ...], "jobs": [{"name", "value", "at": [x, ...],
"curves": {column: [[epoch or step, value], ...]}}, ...], "shown": [index, ...]}`. A job's `at` has a number for each
axis, or null; an axis with `labels` counts them from 0. All text goes into the page as text, never as HTML.
"""

from __future__ import annotations

import json
from typing import Any

NUM_COLOURS = 8

STYLE = """
:root { --c0: #1f6fd6; --c1: #d9480f; --c2: #2b8a3e; --c3: #9c36b5; --c4: #0b7285; --c5: #c2255c; --c6: #5f3dc4;
  --c7: #846358; }
@media (prefers-color-scheme: dark) {
  :root { --c0: #6aa9ff; --c1: #ff922b; --c2: #69db7c; --c3: #da77f2; --c4: #3bc9db; --c5: #f783ac; --c6: #b197fc;
    --c7: #d0b49f; }
}
.plots figure { flex: 1 1 20rem; max-width: 36rem; min-width: 0; }
.plots svg { display: block; width: 100%; touch-action: pan-y; }
.plots svg .grid { stroke: var(--line); } .plots svg .frame { stroke: var(--soft); }
.plots svg .curve { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.plots svg .near { fill: none; stroke: var(--ink); stroke-width: 1.5; }
.plots figcaption { font-size: .85rem; min-height: 2.6em; overflow-wrap: anywhere; }
.plots figcaption b { color: var(--ink); font-weight: 600; }
.legend { list-style: none; padding: 0; margin: .3rem 0 .6rem; display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; }
.legend svg { width: 1.6rem; height: .6rem; margin-right: .4rem; }
.legend .curve { stroke-width: 3; } .legend li { font-size: .85rem; overflow-wrap: anywhere; }
tr[data-job] { cursor: pointer; } tr[data-job]:hover { background: color-mix(in srgb, var(--mark) 8%, transparent); }
td.tick, th.tick { padding-right: 0; text-align: left; } input { accent-color: var(--mark); }
.controls { display: flex; gap: .5rem; margin: .5rem 0; }
.controls button { font: inherit; color: inherit; background: none; border: 1px solid var(--line); border-radius: 6px;
  padding: .15rem .7rem; cursor: pointer; }
""" + "\n".join(
    f".k{i} {{ stroke: var(--c{i}); }} circle.k{i} {{ fill: var(--c{i}); stroke: none; }}" for i in range(NUM_COLOURS)
)

SCRIPT = """
(() => {
const data = JSON.parse(document.getElementById("charts-data").textContent);
const W = 420, H = 240, LEFT = 58, RIGHT = 14, TOP = 10, BOTTOM = 30, COLOURS = 8, NEAR = 30;
const boxes = [...document.querySelectorAll("input[data-job]")];
const chosen = new Map();  // index of a job -> its colour, as long as it is ticked

const make = (name, attributes, text) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
};
const short = value => {
  const size = Math.abs(value);
  if (value === 0) return "0";
  return size >= 1e5 || size < 1e-3 ? value.toExponential(2).replace(/\\.?0+e/, "e") : String(+value.toPrecision(4));
};
const colour = job => "k" + chosen.get(job) % COLOURS;
const dashes = job => ["none", "6 3", "2 3", "8 3 2 3"][Math.floor(chosen.get(job) / COLOURS) % 4];

function scale(values, from, to, log, whole) {
  const f = log ? Math.log10 : x => x;
  let low = Math.min(...values), high = Math.max(...values);
  if (low === high) {
    const pad = whole ? 1 : log ? low / 2 : Math.abs(low) / 10 || 1;
    [low, high] = [low - pad, high + pad];
  }
  const a = f(low), b = f(high);
  const place = x => from + (f(x) - a) / (b - a) * (to - from);
  let ticks = [];
  if (log) {
    const powers = [];
    for (let e = Math.floor(a) - 1; e <= Math.ceil(b); e++) powers.push(e);
    const inside = x => x >= low * 0.999 && x <= high * 1.001;
    const among = digits => powers.flatMap(e => digits.map(d => d * 10 ** e)).filter(inside);
    ticks = [[1], [1, 3], [1, 2, 5]].map(among).find(candidates => candidates.length >= 3) || among([1, 2, 5]);
    while (ticks.length > 6) ticks = ticks.filter((_, i) => i % 2 === 0);
  } else {
    const raw = (high - low) / 4, power = 10 ** Math.floor(Math.log10(raw));
    let step = [1, 2, 5, 10].map(m => m * power).find(s => s >= raw) || raw;
    if (whole) step = Math.max(1, Math.round(step));
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) ticks.push(i * step);
  }
  return { place, ticks };
}
const spread = values => {
  const low = Math.min(...values), high = Math.max(...values);
  return low > 0 && high / low > 20;
};

// series: [{ job, points: [[x, y], ...], line }]; labels: names of the positions 0, 1, ... on the x axis, or null
function chart(title, xName, series, { log, labels, whole }) {
  const figure = document.createElement("figure"), caption = document.createElement("figcaption");
  const root = make("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title });
  const all = series.flatMap(s => s.points), marks = [];
  const say = (heading, detail) => {
    const strong = document.createElement("b");
    strong.textContent = heading;
    caption.replaceChildren(strong, detail ? document.createElement("br") : "", detail || "");
  };
  say(title);
  figure.append(root, caption);
  if (!all.length) {
    root.append(make("text", { x: W / 2, y: H / 2, "text-anchor": "middle" }, "tick a job that has started"));
    return figure;
  }
  const inner = labels && (W - LEFT - RIGHT) / labels.length / 2;
  const across = labels ? { place: scale([0, Math.max(labels.length - 1, 1)], LEFT + inner, W - RIGHT - inner).place,
    ticks: labels.map((_, i) => i) } : scale(all.map(p => p[0]), LEFT + 8, W - RIGHT - 8, log, whole);
  const ys = all.map(p => p[1]), down = scale(ys, H - BOTTOM - 6, TOP + 6, spread(ys));
  for (const y of down.ticks) {
    root.append(make("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: down.place(y), y2: down.place(y) }));
    root.append(make("text", { x: LEFT - 6, y: down.place(y) + 4, "text-anchor": "end" }, short(y)));
  }
  const fits = labels ? Math.max(3, Math.floor((W - LEFT - RIGHT) / labels.length / 6.5)) : 99;
  for (const x of across.ticks) {
    const text = labels ? labels[x].length > fits ? labels[x].slice(0, fits - 1) + "\\u2026" : labels[x] : short(x);
    const at = across.place(x);
    root.append(make("text", { x: at, y: H - BOTTOM + 15, "text-anchor": "middle" }, text));
    root.append(make("line", { class: "frame", x1: at, x2: at, y1: H - BOTTOM, y2: H - BOTTOM + 3 }));
  }
  root.append(make("line", { class: "frame", x1: LEFT, x2: W - RIGHT, y1: H - BOTTOM, y2: H - BOTTOM }));
  root.append(make("text", { x: W - RIGHT, y: H - 2, "text-anchor": "end" }, xName));
  for (const { job, points, line } of series) {
    const placed = points.map(([x, y]) => [across.place(x), down.place(y)]);
    placed.forEach((at, i) => marks.push({ at, job, x: points[i][0], y: points[i][1] }));
    if (line && placed.length > 1) {
      root.append(make("polyline", { class: "curve " + colour(job), "stroke-dasharray": dashes(job), "data-job": job,
        points: placed.map(p => p.map(v => v.toFixed(1)).join(",")).join(" ") }));
    } else for (const [cx, cy] of placed) {
      const at = { cx: cx.toFixed(1), cy: cy.toFixed(1), r: chosen.has(job) ? 5 : 3.5, "data-job": job };
      root.append(make("circle", chosen.has(job) ? { ...at, class: colour(job) } : at));
    }
  }
  const ring = make("circle", { class: "near", r: 6, visibility: "hidden" });
  root.append(ring);
  root.addEventListener("pointermove", event => {
    const box = root.getBoundingClientRect();
    const x = (event.clientX - box.left) * W / box.width, y = (event.clientY - box.top) * H / box.height;
    let best = null, least = NEAR ** 2;
    for (const mark of marks) {
      const distance = (mark.at[0] - x) ** 2 + (mark.at[1] - y) ** 2;
      if (distance < least) [best, least] = [mark, distance];
    }
    ring.setAttribute("visibility", best ? "visible" : "hidden");
    if (!best) return say(title);
    ring.setAttribute("cx", best.at[0]);
    ring.setAttribute("cy", best.at[1]);
    say(title, `${data.jobs[best.job].name}: ${short(best.y)} at ${xName} ${labels ? labels[best.x] : short(best.x)}`);
  });
  root.addEventListener("pointerleave", () => { ring.setAttribute("visibility", "hidden"); say(title); });
  return figure;
}

function draw() {
  const order = [...chosen.keys()];
  document.getElementById("curves").replaceChildren(...data.charts.map(column => chart(column, data.across,
    order.map(job => ({ job, points: data.jobs[job].curves[column] || [], line: true })).filter(s => s.points.length),
    { whole: true })));
  const ranked = data.jobs.map((job, n) => n).filter(n => data.jobs[n].value !== null);
  ranked.sort((a, b) => chosen.has(a) - chosen.has(b));  // the ticked ones on top
  document.getElementById("axes")?.replaceChildren(...data.axes.map((axis, i) => chart(
    `${data.monitor} against ${axis.key}`, axis.key, ranked.filter(n => data.jobs[n].at[i] !== null).map(
      n => ({ job: n, points: [[data.jobs[n].at[i], data.jobs[n].value]] })), axis)));
  document.getElementById("legend").replaceChildren(...order.map(job => {
    const item = document.createElement("li"), swatch = make("svg", { viewBox: "0 0 26 10" });
    const look = { class: "curve " + colour(job), "stroke-dasharray": dashes(job) };
    swatch.append(make("line", { ...look, x1: 0, x2: 26, y1: 5, y2: 5 }));
    item.append(swatch, data.jobs[job].name);
    return item;
  }));
}
function set(job, on) {
  if (on && !chosen.has(job)) {
    const taken = new Set(chosen.values());
    let free = 0;
    while (taken.has(free)) free++;
    chosen.set(job, free);
  } else if (!on) chosen.delete(job);
  for (const box of boxes) if (+box.dataset.job === job) box.checked = on;
}
function only(jobs) {
  data.jobs.forEach((_, job) => set(job, false));
  jobs.forEach(job => set(job, true));
  draw();
}
for (const box of boxes) box.addEventListener("change", () => { set(+box.dataset.job, box.checked); draw(); });
for (const row of document.querySelectorAll("tr[data-job]")) row.addEventListener("click", event => {
  if (event.target.closest("input, a, button") || String(getSelection())) return;
  set(+row.dataset.job, !chosen.has(+row.dataset.job));
  draw();
});
document.getElementById("best").addEventListener("click", () => only(data.shown));
document.getElementById("none").addEventListener("click", () => only([]));
only(data.shown);
})();
"""


def embedded(data: Any) -> str:
    """Return the script element that holds the data, escaped so that no text in it can end the element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))  # ASCII
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return f'<script type="application/json" id="charts-data">{text}</script>'
