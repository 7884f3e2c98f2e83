/** The embedded WASM must be built from kernels/, and both lists of operations must be equal. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
// @ts-expect-error: plain JavaScript, shared with the build
import { kernelsHash } from '../../scripts/kernels-hash.mjs';
import { KERNEL_ABI, KERNEL_NAMES } from '../../src/backend/calls/index.ts';
import { KERNELS_SHA256 } from '../../src/backend/kernels.generated.ts';

const kernels = fileURLToPath(new URL('../../kernels/', import.meta.url));

test('the WASM kernels were compiled from these sources (else: make wasm)', () => {
  expect(KERNELS_SHA256).toBe(kernelsHash(kernels));
});

test('calls/index.ts numbers the operations as kernels/gqa.h does', () => {
  const header = readFileSync(`${kernels}gqa.h`, 'utf8');
  const list = /#define GQA_OPS\(X\)((?:[^\n]*\\\n)*[^\n]*)/.exec(header)?.[1] ?? '';
  const names = [...list.matchAll(/X\((\w+)\)/g)].map((match) => match[1]);
  expect(names.length).toBeGreaterThan(0);
  expect(KERNEL_NAMES).toEqual(names);
  expect(header).toContain(`#define GQA_ABI ${KERNEL_ABI}\n`);
});
