/**
 * The SHA-256 of the kernel sources, by which stale builds are found. The WASM build holds the hash of the
 * sources it is compiled from (src/backend/wasm/build.json); a test compares it with kernels/. The
 * native build holds the hash of all sources; src/backend/native.ts compares it where a source is newer than
 * the build.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const NATIVE_ONLY = /^((napi|os|os_\w+|owned|dispatch|processor|threads|isa_\w+|units_\w+)\.[ch]|memory\.c)$/;

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
