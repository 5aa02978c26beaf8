"""How the page of a run looks, by day and by night."""

from __future__ import annotations

_PALETTE = ("#2f6fde", "#e2762b", "#2a9d6f", "#b4459b", "#c9a227", "#6d5bd0", "#c93c3c", "#5f7a8a")
STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --dim: #66707d; --line: #dfe3e8; --card: #fff;
  --back: #f5f6f8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --dim: #98a2b0; --line: #343b45;
  --card: #1d2229; --back: #14181d; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin: 0; } h2 { margin: 2.4rem 0 .6rem; font-size: 1.2rem; }
p, li { max-width: 48rem; } small, .dim { color: var(--dim); }
.state { display: inline-block; padding: 0 .7rem; border-radius: 1rem; background: var(--line); }
.finished { background: #2a9d6f; color: #fff; } .progress { background: #2f6fde; color: #fff; }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
.cards div { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: .6rem 1rem; min-width: 6.4rem; }
.cards b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
figure { display: inline-block; vertical-align: top; margin: .3rem .5rem .3rem 0; padding: .6rem;
  background: var(--card); border: 1px solid var(--line); border-radius: .6rem; max-width: 100%;
  box-sizing: border-box; }
figcaption { font-size: 13px; font-weight: 600; } figcaption small { font-weight: 400; }
svg { max-width: 100%; height: auto; display: block; } img { max-width: 100%; height: auto; }
svg text { fill: var(--dim); font: 11px system-ui, sans-serif; } text.y { text-anchor: end; }
text.x { text-anchor: middle; } .grid { stroke: var(--line); }
polyline { fill: none; stroke-width: 1.6; stroke-linejoin: round; } polyline.c7 {
  stroke-width: 4; opacity: .5; }
.legend { font-size: 12px; color: var(--dim); } .legend span { margin-right: .9rem; }
.legend i { display: inline-block; width: .8rem; height: .5rem; margin-right: .3rem; }
.joints { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: .6rem; }
.joints figure { margin: 0; } .joints figcaption { font-size: 12px; overflow-wrap: anywhere; }
.wide { overflow-x: auto; } table { border-collapse: collapse; background: var(--card);
  border: 1px solid var(--line); font-variant-numeric: tabular-nums; font-size: 14px; }
td, th { padding: .2rem .9rem; text-align: right; } tbody tr { border-top: 1px solid var(--line); }
td:first-child, th:first-child { text-align: left; } td { overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: 14px; }
dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
details { margin: .6rem 0; } summary { cursor: pointer; font-weight: 600; }
""" + "".join(
    f"polyline.c{n} {{ stroke: {colour}; }} rect.c{n}, circle.c{n} {{ fill: {colour}; }} "
    f"i.c{n} {{ background: {colour}; }}\n"
    for n, colour in enumerate(_PALETTE)
)
