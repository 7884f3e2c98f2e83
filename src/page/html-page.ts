/**
 * The HTML template of every page that a command writes: one file, light and dark, responsive, without
 * scripts or links. Series colours are CSS variables, so that charts are legible on both backgrounds.
 */
import { printable } from '../arguments/printable.ts';

/** Series colours, by meaning or in order; `var(--…)` in SVG and HTML. */
export const COLORS = {
  blue: 'var(--blue)',
  orange: 'var(--orange)',
  green: 'var(--green)',
  red: 'var(--red)',
  purple: 'var(--purple)',
  yellow: 'var(--yellow)',
  teal: 'var(--teal)',
  gray: 'var(--gray)',
} as const;

const STYLE = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; --ground: #fff; --ink: #1f2430; --soft: #667085; --line: #8883;
  --blue: #2368b0; --orange: #c2500c; --green: #1e7d45; --red: #bb2f23; --purple: #7340a6; --yellow: #94700a; --teal: #117a72; --gray: #98a2b3; }
@media (prefers-color-scheme: dark) { :root { --ground: #16181d; --ink: #e6e8ec; --soft: #9aa3b2;
  --blue: #6cb0f5; --orange: #f79a5b; --green: #63c98a; --red: #f3857b; --purple: #bd96ea; --yellow: #dfbb4d; --teal: #56c8be; --gray: #6b7485; } }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: var(--ink); background: var(--ground); }
h1 { font-size: 1.5rem; line-height: 1.25; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2rem 0 .3rem; } h3 { font-size: 1rem; margin: .6rem 0 0; }
p { max-width: 46rem; } .note, figcaption { color: var(--soft); font-size: .85rem; }
figure { margin: 0; } svg { display: block; max-width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
.wide { overflow-x: auto; margin: .5rem 0; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; font-weight: normal; }
thead th, th:first-child { color: var(--soft); } th:first-child, .facts td, .left { text-align: left; } .facts td { white-space: normal; overflow-wrap: anywhere; }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, var(--map)), 1fr)); gap: 1rem; } .maps figcaption { overflow-wrap: anywhere; }
.row { display: flex; flex-wrap: wrap; gap: 1rem 2rem; } .half { flex: 1 1 24rem; min-width: 0; } .legend { display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; font-size: .85rem; margin: .2rem 0 .4rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #8881; padding: .8rem; border-radius: 4px; font-size: .85rem; margin: .3rem 0; }
.narrow { display: none; }
@media (max-width: 44rem) { .narrow { display: block; } .broad { display: none; } body { margin: 1rem auto; }
  .half { flex-basis: 100%; } td, th { padding: .2rem .3rem; font-size: .78rem; white-space: normal; } }
`;

/** @param body HTML; texts in it must be escaped */
export function htmlPage(title: string, body: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeHtml(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>${escapeHtml(title)}</h1>
${body}
</main>
</body>
</html>
`;
}

/** Escapes HTML characters as entities, and control characters as `printable` does. */
export function escapeHtml(text: string): string {
  return printable(text).replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

/**
 * A table that scrolls horizontally when too wide, also by keyboard.
 * @param rows the first is the header; cells are HTML
 * @param label description of the table
 */
export function htmlTable(rows: readonly (readonly string[])[], label: string): string {
  const [head, ...body] = rows.map((cells, row) =>
    cells
      .map((cell, i) => {
        if (row > 0 && i > 0) return `<td>${cell}</td>`;
        return cell === '' ? '<td></td>' : `<th scope="${row === 0 ? 'col' : 'row'}">${cell}</th>`;
      })
      .join(''),
  );
  const lines = body.map((cells) => `<tr>${cells}</tr>`).join('\n');
  const table = `<table><thead><tr>${head}</tr></thead>\n<tbody>\n${lines}\n</tbody></table>`;
  return `<div class="wide" role="region" tabindex="0" aria-label="${escapeHtml(label)}">${table}</div>`;
}

/** A table of names and values, as text. */
export function factTable(facts: readonly (readonly [string, string])[]): string {
  const rows = facts.map(
    ([name, value]) => `<tr><th scope="row">${escapeHtml(name)}</th><td>${escapeHtml(value)}</td></tr>`,
  );
  return `<table class="facts">${rows.join('\n')}</table>`;
}

/** A legend: a coloured square and a name per series. */
export function legend(series: readonly { readonly name: string; readonly color: string }[]): string {
  const items = series.map(
    ({ name, color }) => `<span><span style="color:${color}">■</span> ${escapeHtml(name)}</span>`,
  );
  return `<div class="legend">${items.join('')}</div>`;
}

/**
 * An SVG image, at most as wide as the page.
 * @param label its text alternative
 */
export function svg(width: number, height: number, label: string, parts: readonly string[]): string {
  const [w, h] = [Math.ceil(width), Math.ceil(height)];
  return `<svg viewBox="0 0 ${w} ${h}" width="${w}" role="img" aria-label="${escapeHtml(label)}">\n${parts.join('\n')}\n</svg>`;
}

/** Chart widths for a desktop and for a phone, where the text of the wide one would be too small. */
const BROAD = 860;
const NARROW = 358;

/** A chart drawn for both widths; the page shows the one that fits. */
export function svgOfPageWidth(draw: (width: number) => string): string {
  return `<div class="broad">${draw(BROAD)}</div><div class="narrow">${draw(NARROW)}</div>`;
}
