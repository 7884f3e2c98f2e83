/** The README's Python block is the one that ran, and what it printed is what the block beside it promises (npm run check runs that one). */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');

test('Flax prints what the README says', () => {
  const { block, printed } = JSON.parse(read('test/golden/flax/readme.json'));
  const page = read('README.md');
  expect(page).toContain(`\`\`\`python\n${block}\`\`\``);
  expect(page).toContain(`${read('examples/flax.ts')}\`\`\`\n\n\`\`\`text\n${printed}\`\`\``);
});
