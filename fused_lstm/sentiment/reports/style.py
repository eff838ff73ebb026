"""The looks of every page: system fonts, light or dark as the reader's system says, one column on a phone."""

CSS = """
:root { color-scheme: light dark;
  --paper: #fdfdfb; --ink: #1d2329; --soft: #5b6670; --line: #d9dde1; --card: #f3f4f2; --accent: #0b63a5;
  --s0: #0b63a5; --s1: #c4501b; --s2: #3f7d20; --s3: #8a3fa0; --s4: #8a6d00; --s5: #00767a;
  --for: 11, 99, 165; --against: 205, 84, 20; --heat: 11, 99, 165; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14181c; --ink: #e6e9ec; --soft: #9aa5af; --line: #343b42; --card: #1d2329; --accent: #6cb6f2;
  --s0: #6cb6f2; --s1: #f39a6b; --s2: #93cf72; --s3: #d49be6; --s4: #dcc04a; --s5: #5fd0d3;
  --for: 74, 158, 230; --against: 236, 120, 60; --heat: 74, 158, 230; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, "Noto Sans", "Noto Sans CJK SC", "PingFang SC", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
p, ul { margin: .5rem 0; max-width: 46rem; }
p.lead, .soft { color: var(--soft); }
a { color: var(--accent); }
.tiles { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); margin: 1.25rem 0; }
.tile { background: var(--card); border-radius: .5rem; padding: .7rem .9rem; }
.tile b { display: block; font-size: 1.5rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile span { display: block; font-size: .85rem; color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; margin: .5rem 0; }
caption { text-align: left; color: var(--soft); font-size: .88rem; padding-bottom: .3rem; }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { font-weight: 600; color: var(--soft); }
th[scope=row] { font-weight: 500; }
td.n, th.n { text-align: right; white-space: nowrap; }
td.heat { min-width: 4rem; padding: .45rem .8rem; text-align: right;
  background: rgba(var(--heat), calc(var(--share) * .55)); }
td.best { font-weight: 650; }
td.value, code { font-family: ui-monospace, monospace; font-size: .86rem; overflow-wrap: anywhere; }
.charts { display: grid; gap: 1rem 2rem; grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); }
figure { margin: 0; min-width: 0; }
figcaption { font-size: .9rem; color: var(--soft); }
svg.chart { width: 100%; max-width: 34rem; height: auto; display: block; }
svg text { fill: var(--ink); font-size: 11px; }
svg text.tick { fill: var(--soft); }
svg .grid { stroke: var(--line); stroke-width: .7; }
svg .line { fill: none; stroke-width: 2; } svg .bar { stroke-width: 2.5; } svg .count { fill: var(--line); }
svg .ideal { stroke: var(--soft); stroke-dasharray: 4 4; }
.s0 { stroke: var(--s0); } .s1 { stroke: var(--s1); } .s2 { stroke: var(--s2); }
.s3 { stroke: var(--s3); } .s4 { stroke: var(--s4); } .s5 { stroke: var(--s5); }
circle.s0, .key.s0 { fill: var(--s0); background: var(--s0); }
circle.s1, .key.s1 { fill: var(--s1); background: var(--s1); }
circle.s2, .key.s2 { fill: var(--s2); background: var(--s2); }
circle.s3, .key.s3 { fill: var(--s3); background: var(--s3); }
circle.s4, .key.s4 { fill: var(--s4); background: var(--s4); }
circle.s5, .key.s5 { fill: var(--s5); background: var(--s5); }
ul.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1rem; padding: 0; font-size: .85rem; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin-right: .4em; }
.text { background: var(--card); border-radius: .5rem; padding: .6rem .8rem; margin: .2rem 0 1rem; max-height: 15rem;
  overflow-y: auto; overflow-wrap: anywhere; white-space: pre-wrap; line-height: 1.75; }
.text:focus-visible { outline: 2px solid var(--accent); }
mark { color: inherit; background: none; border-radius: .2em; padding: .1em 0; }
mark.for { background: rgba(var(--for), var(--weight)); }
mark.against { background: rgba(var(--against), var(--weight)); text-decoration: underline dotted; }
details { margin: .75rem 0; } summary { cursor: pointer; color: var(--accent); }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
@media (max-width: 30rem) { body { padding: 1rem .8rem 3rem; } th, td { padding-right: .6rem; } }
@media print { .text { max-height: none; } details > * { display: block; } }
"""
