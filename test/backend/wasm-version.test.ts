/** A WASM module of other kernels is refused, not called. */
import { readFileSync } from 'node:fs';
import { expect, test, vi } from 'vitest';
import { KERNEL_ABI, KERNEL_ABI_TEXT } from '../../src/backend/calls/index.ts';
import { openWasm } from '../../src/backend/wasm.ts';

let stated = KERNEL_ABI_TEXT;

vi.mock('../../src/backend/wasm/module.ts', async (original) => ({
  ...(await original<object>()),
  kernelModule: () => ({ isa: 'simd128', module: new WebAssembly.Module(moduleThatStates(stated)) }),
}));

/** The package's module with another text in place of its own, which is as long. */
function moduleThatStates(text: string): Uint8Array<ArrayBuffer> {
  const bytes = readFileSync(new URL('../../src/backend/wasm/simd128.wasm', import.meta.url));
  const at = bytes.indexOf(KERNEL_ABI_TEXT);
  expect(at).toBeGreaterThan(0);
  return new Uint8Array(bytes.fill(text, at, at + text.length));
}

test('the text of the module is compared', () => {
  expect(openWasm(1).description).toMatch(/^wasm \(simd128/);
  const refused = /^wasm: expected a module of the same kernels, got one of another version/;
  for (const other of [
    KERNEL_ABI_TEXT.replace(String(KERNEL_ABI), String(KERNEL_ABI - 1)),
    KERNEL_ABI_TEXT.replace(/ (\w+) (\w+)$/, ' $2 $1'),
  ]) {
    expect(other).not.toBe(KERNEL_ABI_TEXT);
    stated = other;
    expect(() => openWasm(1)).toThrow(refused);
  }
});
