// Which kernel sources the WASM build compiles, and their SHA-256: stamped into src/backend/kernels.generated.ts, recomputed by a test.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const NATIVE_ONLY = /^(napi|dispatch|threads|isa_\w+)\.[ch]$/;

export function wasmSources(kernels) {
  return readdirSync(kernels)
    .filter((name) => /\.[ch]$/.test(name) && !NATIVE_ONLY.test(name))
    .sort();
}

export function kernelsHash(kernels) {
  const hash = createHash('sha256');
  for (const name of wasmSources(kernels))
    hash
      .update(name)
      .update('\0')
      .update(readFileSync(join(kernels, name)));
  return hash.digest('hex');
}
