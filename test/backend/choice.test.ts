/** GQA_BACKEND and GQA_ISA select what they name, or give an error: there is no silent fallback. */
import { afterEach, expect, test, vi } from 'vitest';

/** The registry as a new process with these variables would load it. */
async function registry(variables: Readonly<Record<string, string>>) {
  vi.resetModules();
  for (const [name, value] of Object.entries(variables)) vi.stubEnv(name, value);
  return import('../../src/backend/registry.ts');
}

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

test('an unknown instruction set is an error on every backend that has one', async () => {
  const { getBackend } = await registry({ GQA_BACKEND: '', GQA_ISA: 'sse9' });
  expect(() => getBackend()).toThrow();
  const { open } = await registry({ GQA_BACKEND: '', GQA_ISA: 'sse9' });
  expect(() => open('wasm')).toThrow(new RangeError('GQA_ISA: expected relaxed or simd128, got sse9'));
});

test("WASM's instruction sets are had from WASM, and the native build's do not disturb it", async () => {
  vi.spyOn(console, 'warn').mockImplementation(() => {});
  const forced = await registry({ GQA_BACKEND: '', GQA_ISA: 'simd128' });
  expect(forced.getBackend().description).toMatch(/^wasm \(simd128, \d+ threads?\)$/);
  const native = await registry({ GQA_BACKEND: '', GQA_ISA: 'baseline' });
  expect(native.open('wasm').name).toBe('wasm');
});

test('an unknown backend is an error', async () => {
  const { getBackend } = await registry({ GQA_BACKEND: 'gpu' });
  expect(() => getBackend()).toThrow('expected one of native, wasm, reference, got "gpu"');
});

test('a number of threads that is none is shown as it was written', async () => {
  const { open } = await registry({ GQA_BACKEND: '', GQA_THREADS: 'four' });
  expect(() => open('reference')).toThrow(
    new RangeError('GQA_THREADS: expected an integer from 1 to 64, got "four"'),
  );
});

test('a native build of other kernels is refused, and WASM runs with one line that says so', async () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
  const init = vi.fn();
  vi.doMock('../../src/platform/node.ts', async (original) => {
    const platform = await original<typeof import('../../src/platform/node.ts')>();
    const load = () => ({ abi: '1 fill convert', init });
    const createRequire = () => Object.assign(load, { resolve: (id: string) => `/${id}` });
    return {
      ...platform,
      node: {
        ...platform.node,
        module: { createRequire },
      },
    };
  });
  try {
    const { getBackend, open } = await registry({ GQA_BACKEND: '', GQA_ISA: '' });
    expect(() => open('native')).toThrow('the native build is from another version of the kernels');
    expect(getBackend().name).toBe('wasm');
    expect(warn).toHaveBeenCalledOnce();
    expect(init).not.toHaveBeenCalled();
  } finally {
    vi.doUnmock('../../src/platform/node.ts');
  }
});
