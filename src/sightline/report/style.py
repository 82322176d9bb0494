"""How the page looks, and the few lines of script that read a curve under the pointer. Nothing is fetched."""

from __future__ import annotations

PALETTE = """
:root { color-scheme: light dark; --page: #fbfbfa; --ink: #1d2329; --soft: #5a6572; --line: #dfe3e8; --card: #ffffff;
  --accent: #2f5d8a; --hidden: #e8ecf1; --mark: #dde9f5; --warn: #8a4b12;
  --c0: #2f5d8a; --c1: #b4552d; --c2: #2e7d5b; --c3: #7d4f9c; --c4: #9a7b13; --c5: #b03a5b; --c6: #3b7f94;
  --c7: #5f6570; --c8: #6b4a2b; --c9: #5b6fd0; --c10: #6f8f1f; --c11: #c2409a; --c12: #0f8f8a; --c13: #d0711a;
  --c14: #8f1f2f; --c15: #1f4f3f; }
@media screen and (prefers-color-scheme: dark) { :root { --page: #14171b; --ink: #e6e9ec;
  --soft: #a0abb7; --line: #2e353d;
  --card: #1b2026; --accent: #7fb2e0; --hidden: #2a3138; --mark: #243a50; --warn: #e5ab6d;
  --c0: #7fb2e0; --c1: #e8936b; --c2: #6cc79b; --c3: #c39be0; --c4: #d9bb57; --c5: #ea86a3; --c6: #79c3d8;
  --c7: #aab2bd; --c8: #c9a37f; --c9: #a5b2ff; --c10: #b5d45f; --c11: #f58ad6; --c12: #5fe0d8; --c13: #ffb25f;
  --c14: #ff7f7f; --c15: #9fd0b8; } }
"""

CSS = (
    PALETTE
    + """\
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.55;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "PingFang SC", "Noto Sans CJK SC",
  sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 2.5rem) 4rem; }
h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; margin: .2rem 0 .4rem; letter-spacing: -.01em;
  text-wrap: balance; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p, li { max-width: 46rem; }
p { margin: .4rem 0 .8rem; }
.eyebrow { color: var(--accent); font-weight: 600; font-size: .85rem; margin: 0; }
.soft, figcaption, .unit, .small { color: var(--soft); }
.unit, .small, .spread { display: block; font-size: .78rem; font-weight: 400; white-space: nowrap; }
.small { white-space: normal; min-width: 6rem; }
.muted { color: var(--soft); font-style: italic; background: var(--page); }
.take { background: var(--card); border: 1px solid var(--line); border-left: 4px solid var(--accent);
  border-radius: 6px;
  padding: .6rem 1.2rem; }
.take ul { padding-left: 1.1rem; margin: .3rem 0; }
.take li { margin: .35rem 0; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; background: var(--card); }
.scroll:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .8rem; text-align: right; vertical-align: top; border-top: 1px solid var(--line); }
thead th { vertical-align: bottom; font-weight: 600; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--card); }
.plain th, .plain td { text-align: left; position: static; }
.grid { display: grid; gap: 1.2rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .8rem; }
figcaption { font-size: .85rem; margin-top: .4rem; overflow-wrap: anywhere; }
figure svg { max-width: 100%; height: auto; display: block; }
.chart svg { width: 100%; overflow: hidden; touch-action: pan-y; }
.sight svg { color: var(--ink); width: 8rem; }
.sight svg path[fill="#e8ecf1"] { fill: var(--hidden); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; padding: 0; margin: .2rem 0 .8rem; list-style: none;
  font-size: .9rem; }
.legend i { display: inline-block; width: 1.4rem; height: 0; border-top: 3px solid; margin-right: .4rem;
  vertical-align: middle; }
.legend i.own { border-top-style: dashed; }
.told { min-height: 1.4em; font-size: .82rem; color: var(--soft); font-variant-numeric: tabular-nums; }
.sample { margin: .6rem 0 1.2rem; }
.passage { font: .92rem/1.6 ui-serif, Georgia, "Songti SC", serif; white-space: pre-wrap; overflow-wrap: anywhere;
  background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .7rem 1rem; margin: .3rem 0; }
.passage .given { color: var(--soft); }
mark { background: var(--mark); color: inherit; border-radius: 3px; padding: 0 .1em; }
pre, code { font: .85rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  padding: .7rem 1rem; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .2rem 1.2rem; font-size: .9rem;
  margin: .4rem 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
summary { cursor: pointer; margin: .4rem 0; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 1rem; top: 1rem; background: var(--card); padding: .5rem; }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; } dt { margin-top: .4rem; } th, td {
  padding: .45rem .6rem; } }
@media print { :root { color-scheme: light; --page: #fff; --ink: #000; --card: #fff; --soft: #444; --line: #bbb;
  --mark: #ddd; }
  main { max-width: none; padding: 0; } .scroll { overflow: visible; border: 0; } table { font-size: 7.5pt; }
  th, td { padding: .2rem .3rem; } .unit, .small, .spread { font-size: 6.5pt; white-space: normal; min-width: 0; }
  figure, .sample, tr, .take { break-inside: avoid; } h2, h3 { break-after: avoid; } .told, .skip { display: none; } }
"""
)

SCRIPT = """
for (const chart of document.querySelectorAll(".chart")) {
  const svg = chart.querySelector("svg"), told = chart.querySelector(".told"), rule = svg.querySelector(".rule");
  const lines = [...svg.querySelectorAll("[data-points]")].map(line => ({ name: line.dataset.name,
    points: line.dataset.points.split(" ").map(point => point.split(",")) }));
  const show = event => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    const near = lines.map(line => [line.name, line.points.reduce((a,
      b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a)]);
    rule.setAttribute("x1", x); rule.setAttribute("x2", x); rule.setAttribute("visibility", "visible");
    told.textContent = near.map(([name, point]) => name + " " + point[2] + " at " + point[1]).join(" · ");
  };
  svg.addEventListener("pointermove", show); svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", () => rule.setAttribute("visibility", "hidden"));
}
"""
