/** check-readme.mjs on a small package: a block whose output differs from the page's must fail. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';

const script = fileURLToPath(new URL('../../scripts/check-readme.mjs', import.meta.url));
const roots: string[] = [];

/**
 * Runs the checker on a package `gqa` that exports `answer = 42`, with this README (`~~~` stands for a
 * fence).
 * @param page where it lies instead
 */
function check(readme: string, environment: Record<string, string> = {}, page = 'README.md') {
  const temporary = mkdtempSync(join(tmpdir(), 'gqa-readme-'));
  roots.push(temporary);
  const root = join(temporary, 'package'); // so that ../shared/models is not somebody's
  mkdirSync(root);
  const exports = { '.': { types: './index.d.ts', default: './index.js' } };
  const files = {
    'package.json': JSON.stringify({ name: 'gqa', type: 'module', exports }),
    'index.js': 'export const answer = 42;\n',
    'index.d.ts': 'export declare const answer: number;\n',
    'example.ts': "import { answer } from 'gqa';\nconsole.log(answer);\n",
    'weights.gguf': 'GGUF',
    [page]: readme.replaceAll('~~~', '```'),
  };
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  const env = { ...process.env, GQA_MODEL: '', ...environment };
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, root], {
    encoding: 'utf8',
    env,
    cwd: root,
  });
  return { status, output: stdout + stderr };
}

afterEach(() => {
  for (const root of roots.splice(0)) rmSync(root, { recursive: true, force: true });
});

const program = "import { answer } from 'gqa';\nconsole.log(answer);\n";

describe('check-readme', () => {
  test('runs marked blocks against the package and compares what they print', () => {
    const { status, output } = check(
      `# Page\n~~~ts run\n${program}~~~\n\n~~~text\n42\n~~~\n\n~~~sh run\nnpm ci && npm run build && echo took 3 s\n~~~\n\n` +
        '~~~text\ntook … s\n~~~\n\n~~~sh\nexit 1\n~~~\n',
    );
    expect(output).toBe('ok README.md:2\nok README.md:11\n2 blocks, 0 failed\n');
    expect(status).toBe(0);
  });

  test('each wrong block fails', () => {
    const broken = [
      [`~~~ts run\n${program}~~~\n~~~text\n41\n~~~\n`, 'printed\n42'],
      ['~~~sh run\necho a; echo b\n~~~\n~~~text\na\n~~~\n', 'printed\na\nb'],
      [`~~~ts run\n${program}answer.length;\n~~~\n`, "Property 'length' does not exist"],
      ["~~~ts run\nimport { b } from 'gqa';\nb;\n~~~\n", "no exported member 'b'"],
      ['~~~sh run\nfalse\necho a\n~~~\n', 'FAILED README.md:23'],
      [`~~~ts run example.ts\n${program}// more\n~~~\n`, 'the block and example.ts differ'],
    ];
    const { status, output } = check(broken.map(([text]) => text).join(''));
    for (const [, message] of broken) expect(output).toContain(message);
    expect(output).toContain('6 blocks, 6 failed');
    expect(status).toBe(1);
  });

  test('the guides are among the pages', () => {
    const page = `~~~ts run\n${program}~~~\n~~~text\n41\n~~~\n`;
    expect(check(page, {}, 'docs/guides/a.md').output).toContain('FAILED docs/guides/a.md:1');
  });

  test('a block that equals its example file runs', () => {
    expect(check(`~~~ts run example.ts\n${program}~~~\n`).output).toContain('ok README.md:1');
  });

  test('a block that needs a model runs on GQA_MODEL and is skipped with a message without one', () => {
    const readme = '~~~sh run model\ncat model.gguf\n~~~\n~~~text\nGGUF\n~~~\n';
    expect(check(readme).output).toContain('skipped README.md:1: needs a model');
    const { output } = check(readme, { GQA_MODEL: 'weights.gguf' });
    expect(output).toContain('ok README.md:1');
  });
});
