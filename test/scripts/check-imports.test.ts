/** check-imports.mjs on small trees: each wrong import must fail with its file and rule. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';

const script = fileURLToPath(new URL('../../scripts/check-imports.mjs', import.meta.url));
const roots: string[] = [];

/** Runs the checker on a tree of files under src/; returns its exit code and what it printed. */
function check(files: Record<string, string>): { status: number | null; output: string } {
  const root = mkdtempSync(join(tmpdir(), 'gqa-imports-'));
  roots.push(root);
  for (const [name, text] of Object.entries(files)) {
    const path = join(root, 'src', name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, root], { encoding: 'utf8' });
  return { status, output: stdout + stderr };
}

afterEach(() => {
  for (const root of roots.splice(0)) rmSync(root, { recursive: true, force: true });
});

const leaf = 'export const a = 1;\n';

describe('check-imports', () => {
  test('allowed imports, entries and Node built-ins pass', () => {
    const { status, output } = check({
      'format/a.ts': leaf,
      'plan/a.ts': "import { a } from '../format/a.ts';\nexport const b = a;\n",
      'tensor/a.ts': leaf,
      'backend/native.ts':
        "import type { Stats } from 'node:fs';\nimport { a } from '../tensor/a.ts';\nexport const b = a;\n",
      'text/a.ts': "import { Template } from '@huggingface/jinja';\nexport { Template };\n",
      'cli/a.ts': "import 'node:path';\nimport '../text/a.ts';\nawait typeof process;\n",
      'index.ts': "export { a } from './tensor/a.ts';\n",
    });
    expect(output).toBe('7 files, no wrong import, no cycle\n');
    expect(status).toBe(0);
  });

  test('each wrong import fails with its file, line and rule', () => {
    const { status, output } = check({
      'ops/a.ts': leaf,
      'index.ts': leaf,
      'tensor/value.ts': "import { a } from '../ops/a.ts';\nexport const b = a;\n",
      'tensor/type.ts': "export type B = import('../ops/a.ts').A;\n",
      'tensor/again.ts': "\nexport * from '../ops/a.ts';\n",
      'tensor/later.ts': "export const b = import('../ops/a.ts');\n",
      'tensor/entry.ts': "import '../index.ts';\n",
      'tensor/builtin.ts': "import 'node:fs';\nexport const later = () => import('node:os');\n",
      'tensor/bare.ts': "import 'fs';\n",
      'tensor/missing.ts': "import './c.ts';\n",
      'tensor/outside.ts': "import '../../test/a.ts';\n",
    });
    const builtins = 'only cli may; platform/node.ts has them for library code';
    const rule = 'tensor may import folders below it, not ops';
    expect(output.trim().split('\n').sort()).toEqual([
      `src/tensor/again.ts:2: imports ../ops/a.ts; ${rule}`,
      `src/tensor/bare.ts:1: imports fs; ${builtins}`,
      'src/tensor/bare.ts:1: imports fs; write node:fs',
      `src/tensor/builtin.ts:1: imports node:fs; ${builtins}`,
      `src/tensor/builtin.ts:2: imports node:os; ${builtins}`,
      'src/tensor/entry.ts:1: imports ../index.ts; tensor may import folders below it, not entry',
      `src/tensor/later.ts:1: imports ../ops/a.ts; ${rule}`,
      'src/tensor/missing.ts:1: imports ./c.ts; no such file',
      'src/tensor/outside.ts:1: imports ../../test/a.ts; outside src/',
      `src/tensor/type.ts:1: imports ../ops/a.ts; ${rule}`,
      `src/tensor/value.ts:1: imports ../ops/a.ts; ${rule}`,
    ]);
    expect(status).toBe(1);
  });

  test('a top-level await and another test for Node fail', () => {
    const { status, output } = check({
      'ops/await.ts': 'export const f = async () => await 1;\nexport const a = await f();\n',
      'ops/loop.ts': 'for await (const x of []) x;\n',
      'ops/process.ts': "export const isNode = () => typeof process !== 'undefined';\n",
      'platform/node.ts': "export const isNode = typeof process !== 'undefined';\n",
    });
    expect(output.trim().split('\n')).toEqual([
      'src/ops/await.ts:2: top-level await',
      'src/ops/loop.ts:1: top-level await',
      'src/ops/process.ts:1: tests for process; isNode of platform/node.ts does',
    ]);
    expect(status).toBe(1);
  });

  test('format imports no package, and plan only arguments, format and files', () => {
    const { output } = check({
      'format/a.ts': "import { x } from '@huggingface/jinja';\nexport const a = x;\n",
      'tensor/a.ts': leaf,
      'plan/a.ts': "import '../tensor/a.ts';\n",
    });
    expect(output).toContain('format may import no package');
    expect(output).toContain('plan may import arguments, format, files, not tensor');
  });

  test('only backend may import the parts of the reference backend', () => {
    const { status, output } = check({
      'backend/reference/a.ts': leaf,
      'backend/reference.ts': "import './reference/a.ts';\n",
      'random/a.ts': "import '../backend/reference.ts';\n",
      'random/b.ts': "import { a } from '../backend/reference/a.ts';\nexport const b = a;\n",
    });
    expect(output).toBe(
      'src/random/b.ts:1: imports ../backend/reference/a.ts; only backend may import backend/reference/\n',
    );
    expect(status).toBe(1);
  });

  test('a cycle is named as a chain', () => {
    const { status, output } = check({
      'ops/a.ts': "import './b.ts';\n",
      'ops/b.ts': "import type { C } from './c.ts';\nexport type B = C;\n",
      'ops/c.ts': "import './a.ts';\nexport type C = 1;\n",
    });
    expect(output).toBe('cycle: ops/a.ts -> ops/b.ts -> ops/c.ts -> ops/a.ts\n');
    expect(status).toBe(1);
  });

  test('a folder that is missing in LAYERS fails', () => {
    expect(check({ 'utils/a.ts': leaf }).output).toContain('folder utils is missing in LAYERS');
  });
});
