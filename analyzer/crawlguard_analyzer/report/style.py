"""The look of the HTML page: quiet, legible at any width, in the light, in the dark and on paper. No colour is the only sign of anything."""

from __future__ import annotations

from .markup import Markup

CSS = Markup("""
:root {
  color-scheme: light dark;
  --paper: #fff; --ink: #1c2024; --soft: #5b6470; --rule: #dfe3e7; --wash: #f5f6f7; --accent: #245f9c; --bad: #b3361f; --good: #25704f;
  --person: #2f8560; --unknown: #8d9299; --declared: #245f9c; --tool: #5f93bd; --feed: #6b9f7f; --monitor: #7f86bf;
  --crawler: #c8442d; --swarm: #d0761c; --spoofed: #8e2f6b;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #16191d; --ink: #e4e7ea; --soft: #a0a9b3; --rule: #333a42; --wash: #1e2329; --accent: #7db4ea; --bad: #f58a75; --good: #72c7a0;
    --person: #58b389; --unknown: #868d95; --declared: #6aa5df; --tool: #4d80aa; --feed: #4f8a68; --monitor: #7a83c9;
    --crawler: #ee6b54; --swarm: #eda253; --spoofed: #c873ab;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 64rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif;
}
h1 { margin: 0; font-size: 1.7rem; font-weight: 650; line-height: 1.2; letter-spacing: -.01em; }
h2 { margin: 0 0 .3rem; font-size: 1.2rem; font-weight: 650; line-height: 1.3; }
h3 { margin: 1.6rem 0 .3rem; font-size: 1rem; font-weight: 650; }
p { margin: 0 0 .8rem; max-width: 44rem; }
a { color: var(--accent); text-underline-offset: .15em; }
.soft, figcaption { color: var(--soft); }
.soft, figcaption { font-size: .9rem; }
.lead { font-size: 1.08rem; margin-top: 1.2rem; }
.bad { color: var(--bad); } .good { color: var(--good); }
section { margin-top: 3rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; margin: 1.2rem 0 0; padding: .6rem 0; list-style: none; border: solid var(--rule); border-width: 1px 0; font-size: .9rem; }
code, .mono { font-family: ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", monospace; font-size: .86em; overflow-wrap: anywhere; }
pre { margin: .5rem 0; padding: .7rem .9rem; background: var(--wash); border-radius: 6px; white-space: pre-wrap; }
dl.figures { display: grid; grid-template-columns: repeat(6, 1fr); gap: 1rem 1.5rem; margin: 1.6rem 0 0; }
dl.figures div { display: flex; flex-direction: column-reverse; justify-content: flex-end; border-top: 2px solid var(--ink); padding-top: .45rem; }
dl.figures dt { font-size: .85rem; color: var(--soft); line-height: 1.35; }
dl.figures dd { margin: 0; font-size: 1.55rem; font-weight: 600; line-height: 1.25; font-variant-numeric: tabular-nums; letter-spacing: -.01em; }
figure { margin: .8rem 0; }
svg { display: block; overflow: visible; }
svg.chart { width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
svg text.strong { fill: var(--ink); font-weight: 600; }
svg .grid { stroke: var(--rule); } svg .axis { stroke: var(--soft); } svg .mark { stroke: var(--ink); stroke-dasharray: 2 3; }
svg .step { fill: none; stroke-width: 2; stroke-linejoin: round; } svg .of-requests { stroke: var(--crawler); } svg .of-clients { stroke: var(--accent); stroke-dasharray: 6 3; }
.chart rect { stroke: var(--paper); stroke-width: .6; } .chart g:hover rect { opacity: .75; }
.c-person { fill: var(--person); } .c-unknown { fill: var(--unknown); } .c-declared { fill: var(--declared); } .c-tool { fill: var(--tool); }
.c-feed { fill: var(--feed); } .c-monitor { fill: var(--monitor); } .c-crawler { fill: var(--crawler); } .c-swarm { fill: var(--swarm); }
.c-spoofed { fill: var(--spoofed); } .c-plain { fill: var(--tool); }
.bar { width: 100%; min-width: 5rem; height: .7rem; } .bar rect { stroke: var(--paper); stroke-width: 1; vector-effect: non-scaling-stroke; }
.spark { width: 6.5rem; height: 1.2rem; overflow: hidden; } .spark path { fill: var(--soft); }
.swatch { display: inline-block; width: .72em; height: .72em; margin-right: .4em; }
.line { display: inline-block; width: 1.8em; height: .7em; margin-right: .4em; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; margin: .2rem 0 .4rem; padding: 0; list-style: none; font-size: .87rem; }
dl.shares { display: grid; grid-template-columns: max-content 1fr; gap: .5rem 1rem; align-items: center; margin: 1rem 0 .6rem; font-size: .9rem; }
dl.shares dd { margin: 0; } dl.shares .bar { height: 1.25rem; }
.scroll { overflow-x: auto; } .scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; }
table { width: 100%; border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; line-height: 1.4; margin: .4rem 0 .6rem; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; } /* for screen readers: a heading stands above */
th, td { text-align: left; vertical-align: top; padding: .4rem .9rem .4rem 0; border-bottom: 1px solid var(--rule); font-weight: 400; }
thead th { font-weight: 600; color: var(--soft); border-bottom-color: var(--soft); vertical-align: bottom; white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
.n { text-align: right; white-space: nowrap; }
tbody th { min-width: 12.5rem; } .w { width: 18%; min-width: 7rem; } td.w { padding-top: .72rem; }
.why { min-width: 14rem; }
.sub { display: block; color: var(--soft); font-size: .92em; max-width: 30rem; overflow: hidden; text-overflow: ellipsis; }
.keep { white-space: nowrap; }
details { margin: .4rem 0; font-size: .95rem; } summary { cursor: pointer; color: var(--accent); width: max-content; }
footer { margin-top: 3.5rem; padding-top: .8rem; border-top: 1px solid var(--rule); color: var(--soft); font-size: .87rem; }
@media screen and (max-width: 860px) { dl.figures { grid-template-columns: repeat(3, 1fr); } }
@media screen and (max-width: 640px) {
  body { padding: 1.4rem 1rem 3rem; }
  section { margin-top: 2.3rem; }
  .opt { display: none; }
  svg text { font-size: 23px; } svg text.minor { display: none; }
  dl.figures { grid-template-columns: 1fr 1fr; } dl.figures dd { font-size: 1.35rem; }
  dl.shares { grid-template-columns: 1fr; gap: .15rem; } dl.shares dd { margin-bottom: .5rem; }
  tbody th { min-width: 8rem; } .w { min-width: 5rem; } .why { min-width: 11rem; }
}
@media print {
  @page { margin: 16mm 15mm; }
  html { font-size: 9.5pt; } body { padding: 0; max-width: none; }
  nav, details { display: none; }
  section { margin-top: 1.6rem; }
  h2, h3 { break-after: avoid; } figure, tr, dl, li { break-inside: avoid; } thead { display: table-header-group; }
  .scroll { overflow: visible; } a { color: inherit; text-decoration: none; } pre { border: 1px solid var(--rule); }
}
""")
