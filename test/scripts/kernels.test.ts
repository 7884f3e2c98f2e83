/** The WASM builds must be built from kernels/, and both lists of operations must be equal. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
// @ts-expect-error: plain JavaScript, shared with the build
import { kernelsHash } from '../../scripts/kernels-hash.mjs';
import { KERNEL_ABI, KERNEL_NAMES } from '../../src/backend/calls/index.ts';

const kernels = fileURLToPath(new URL('../../kernels/', import.meta.url));
const builds = fileURLToPath(new URL('../../src/backend/wasm/', import.meta.url));

test('the WASM kernels were compiled from these sources (else: make wasm)', () => {
  const { compiler, flags, ...sha256 } = JSON.parse(readFileSync(`${builds}build.json`, 'utf8'));
  const hashOf = (name: string) =>
    createHash('sha256')
      .update(readFileSync(`${builds}${name}`))
      .digest('hex');
  expect(sha256).toEqual({
    kernels: kernelsHash(kernels),
    'relaxed.wasm': hashOf('relaxed.wasm'),
    'simd128.wasm': hashOf('simd128.wasm'),
  });
});

test('calls/index.ts numbers the operations as kernels/gqa.h does', () => {
  const header = readFileSync(`${kernels}gqa.h`, 'utf8');
  const list = /#define GQA_OPS\(X\)((?:[^\n]*\\\n)*[^\n]*)/.exec(header)?.[1] ?? '';
  const names = [...list.matchAll(/X\((\w+)\)/g)].map((match) => match[1]);
  expect(names.length).toBeGreaterThan(0);
  expect(KERNEL_NAMES).toEqual(names);
  expect(header).toContain(`#define GQA_ABI ${KERNEL_ABI}\n`);
});
