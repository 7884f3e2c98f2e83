/** The README's Python block is the one that was run, and its output is the text block of the README. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');

test('Flax prints what the README says', () => {
  const { block, printed } = JSON.parse(read('test/golden/flax/readme.json'));
  const page = read('README.md');
  expect(page).toContain(`\`\`\`python\n${block}\`\`\``);
  expect(page).toContain(`${read('examples/flax.ts')}\`\`\`\n\n\`\`\`text\n${printed}\`\`\``);
});
