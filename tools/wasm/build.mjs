// Compiles kernels/wasm.c to WASM, with SIMD128 and with relaxed SIMD, into src/backend/wasm/, and writes
// build.json beside them: compiler, flags and hashes of sources and modules. Run by `make wasm`, after
// `npm ci --prefix tools/wasm`. Plain clang flags: another clang with a wasm32 target does as well.
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runClang } from '@yowasp/clang';
import { kernelsHash, wasmSources } from '../../scripts/kernels-hash.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const kernels = join(root, 'kernels');
const { version } = JSON.parse(
  readFileSync(new URL('node_modules/@yowasp/clang/package.json', import.meta.url), 'utf8'),
);

const EXPORTS = [
  ...['gqa_abi', 'gqa_alloc', 'gqa_free', 'gqa_call', 'gqa_set_threads', 'gqa_worker', 'gqa_abandon'],
  ...['gqa_bytes_in_use', 'gqa_bytes_refused', '__stack_pointer'],
];
const FLAGS = [
  '--target=wasm32 -std=gnu11 -O3 -nostdlib -ffreestanding -mbulk-memory -mbulk-memory-opt -matomics -fno-math-errno -ffp-contract=off',
  '-Wl,--no-entry -Wl,--import-memory -Wl,--shared-memory -Wl,--initial-memory=1048576 -Wl,--max-memory=4294967296 -Wl,-z,stack-size=262144 -Wl,--strip-all',
  ...EXPORTS.map((name) => `-Wl,--export=${name}`),
]
  .join(' ')
  .split(' ');
const BUILDS = { relaxed: ['-msimd128', '-mrelaxed-simd'], simd128: ['-msimd128'] };

const files = Object.fromEntries(
  wasmSources(kernels).map((name) => [name, readFileSync(join(kernels, name))]),
);
const folder = join(root, 'src/backend/wasm');
const sha256 = {};
for (const [name, flags] of Object.entries(BUILDS)) {
  const sources = ['wasm.c', 'memory_wasm.c', 'scratch.c', 'threads_wasm.c', 'units.c'];
  const tree = await runClang(['clang', ...FLAGS, ...flags, '-I.', ...sources, '-o', 'out.wasm'], files, {
    fetchProgress: () => {},
  });
  const bytes = tree['out.wasm'];
  writeFileSync(join(folder, `${name}.wasm`), bytes);
  sha256[`${name}.wasm`] = createHash('sha256').update(bytes).digest('hex');
  console.log(`${name}.wasm: ${bytes.length} bytes`);
}
const build = {
  compiler: `@yowasp/clang ${version}`,
  flags: FLAGS.join(' '),
  kernels: kernelsHash(kernels),
  ...sha256,
};
writeFileSync(join(folder, 'build.json'), `${JSON.stringify(build, null, 2)}\n`);
