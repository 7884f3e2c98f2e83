// Which kernel sources the WASM build compiles, and their SHA-256: stamped into src/backend/kernels.generated.ts, recomputed by a test.
// The native build carries that of all sources, which src/backend/native.ts compares where sources are newer than the build.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const NATIVE_ONLY = /^(napi|owned|dispatch|threads|isa_\w+)\.[ch]$/;

export function nativeSources(kernels) {
  return readdirSync(kernels)
    .filter((name) => /\.[ch]$/.test(name))
    .sort();
}

export function wasmSources(kernels) {
  return nativeSources(kernels).filter((name) => !NATIVE_ONLY.test(name));
}

export function kernelsHash(kernels, names = wasmSources(kernels)) {
  const hash = createHash('sha256');
  for (const name of names)
    hash
      .update(name)
      .update('\0')
      .update(readFileSync(join(kernels, name)));
  return hash.digest('hex');
}
