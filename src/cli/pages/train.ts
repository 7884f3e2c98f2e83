/** The page of a training run: facts, curves, a sample. */
import { escapeHtml, factTable, htmlPage } from '../../page/html-page.ts';
import { type Curve, lineChart } from '../../page/line-chart.ts';

/** `facts` are name and value pairs for the table above the curves. */
export function trainPage(
  title: string,
  facts: readonly (readonly [string, string])[],
  charts: readonly { readonly title: string; readonly curves: readonly Curve[] }[],
  sample: string | undefined,
): string {
  const drawn = charts.map(
    ({ title: name, curves }) => `<h2>${escapeHtml(name)}</h2>\n${lineChart(curves, `${name} by step`)}`,
  );
  const said = sample === undefined ? '' : `<h2>Sample</h2>\n<pre>${escapeHtml(sample)}</pre>`;
  return htmlPage(title, [factTable(facts), ...drawn, said].join('\n'));
}
