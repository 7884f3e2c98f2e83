/** check-examples.mjs on small trees: each type error of an example must fail with its file and line. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';

const script = fileURLToPath(new URL('../../scripts/check-examples.mjs', import.meta.url));
const roots: string[] = [];

afterEach(() => {
  for (const root of roots.splice(0)) rmSync(root, { recursive: true, force: true });
});

function check(files: Record<string, string>): { status: number | null; output: string } {
  const root = mkdtempSync(join(tmpdir(), 'gqa-examples-'));
  roots.push(root);
  const compilerOptions = {
    ...{ target: 'es2023', module: 'nodenext', strict: true, types: [], noEmit: true },
    ...{
      allowImportingTsExtensions: true,
      paths: { gqa: ['./src/index.ts'], 'gqa/*': ['./src/*/index.ts'] },
    },
  };
  const all = {
    'package.json': JSON.stringify({ type: 'module', exports: { '.': {}, './nn': {} } }),
    'tsconfig.json': JSON.stringify({ compilerOptions }),
    'src/index.ts': "export { twice } from './ops/twice.ts';\n",
    'src/nn/index.ts': 'export const five = 5;\n',
    ...files,
  };
  for (const [name, text] of Object.entries(all)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, root], { encoding: 'utf8' });
  return { status, output: stdout + stderr };
}

const twice = (example: string) =>
  `/** Doubles.\n * @example ${example}\n */\nexport function twice(n: number): number | undefined {\n  return n * 2;\n}\n`;

test('an example that compiles, and a block of a page', () => {
  const { status, output } = check({
    'src/ops/twice.ts': twice('twice(five)'),
    'README.md': "```ts\nimport { five } from 'gqa/nn';\nconst six: number = five + 1;\n```\n",
  });
  expect([status, output]).toEqual([0, '2 examples, 0 problems\n']);
});

test('a value that may be undefined', () => {
  const { status, output } = check({ 'src/ops/twice.ts': twice('twice(1).toFixed()') });
  expect(status).toBe(1);
  expect(output).toContain('src/ops/twice.ts:2: TS2532');
});

test('a name that nothing exports, and an argument of another kind in a page', () => {
  const { status, output } = check({
    'src/ops/twice.ts': twice('thrice(1)'),
    'docs/a.md': "# A\n\n```ts\ntwice('1');\n```\n",
  });
  expect(status).toBe(1);
  expect(output).toContain("src/ops/twice.ts:2: TS2304: Cannot find name 'thrice'");
  expect(output).toContain('docs/a.md:3: TS2345');
});
