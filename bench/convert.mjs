/**
 * A conversion beside a copy of the same generated checkpoint, both with fsync, in alternating order. Prints
 * the wall time, the processor time (which depends little on other programs), their ratios, and the
 * converter's peak anonymous memory. With --kill it kills the converter at twenty moments instead: the output
 * must then be complete or absent.
 *
 * Usage: node bench/convert.mjs [--gb 2] [--folder /tmp] [--rounds 3] [--kill]. It needs dist/.
 */
import { execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { openCheckpoint, writeSafetensors } from '../dist/checkpoint/index.js';

const { values } = parseArgs({
  options: {
    gb: { type: 'string', default: '2' },
    folder: { type: 'string', default: tmpdir() },
    rounds: { type: 'string', default: '3' },
    kill: { type: 'boolean', default: false },
  },
});
const cli = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const work = mkdtempSync(join(values.folder, 'gqa-bench-convert-'));
const [source, target, copy] = ['in', 'out', 'copy'].map((name) => join(work, name));

/** Writes a multi-head Llama in bf16 of about `bytes` bytes, D = 2048 and N = K = 16, in two shards. */
async function generate(bytes) {
  const [D, H, I, V] = [2048, 128, 5632, 4096];
  const layerBytes = 2 * (4 * D * D + 3 * D * I + 2 * D);
  const layers = Math.max(1, Math.round((bytes - 4 * V * D) / layerBytes));
  mkdirSync(source);
  const noise = new Uint8Array(1 << 20);
  for (let i = 0; i < noise.length; i += 2) {
    noise[i] = (i * 2654435761) >>> 13;
    noise[i + 1] = 0x3c + ((i >> 1) & 1) * 0x80; // small numbers of either sign
  }
  const make = (shape) => ({
    dtype: 'bf16',
    shape,
    *data() {
      const total = 2 * shape.reduce((a, b) => a * b);
      for (let at = 0; at < total; at += noise.length)
        yield noise.subarray(0, Math.min(noise.length, total - at));
    },
  });
  const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
  const tensors = [
    { 'model.embed_tokens.weight': make([V, D]) },
    { 'model.norm.weight': make([D]), 'lm_head.weight': make([V, D]) },
  ];
  for (let i = 0; i < layers; i++) {
    const at = `model.layers.${i}`;
    Object.assign(tensors[i < layers / 2 ? 0 : 1], {
      [`${at}.input_layernorm.weight`]: make([D]),
      [`${at}.post_attention_layernorm.weight`]: make([D]),
      ...Object.fromEntries(
        ['q', 'k', 'v', 'o'].map((name) => [`${at}.self_attn.${name}_proj.weight`, make([D, D])]),
      ),
      [`${at}.mlp.gate_proj.weight`]: make([I, D]),
      [`${at}.mlp.up_proj.weight`]: make([I, D]),
      [`${at}.mlp.down_proj.weight`]: make([D, I]),
    });
  }
  const map = {};
  for (const [i, shard] of shards.entries()) {
    await writeSafetensors(join(source, shard), tensors[i]);
    for (const name of Object.keys(tensors[i])) map[name] = shard;
  }
  writeFileSync(
    join(source, 'model.safetensors.index.json'),
    JSON.stringify({ metadata: {}, weight_map: map }),
  );
  const config = {
    ...{
      model_type: 'llama',
      architectures: ['LlamaForCausalLM'],
      vocab_size: V,
      hidden_size: D,
      intermediate_size: I,
    },
    ...{
      num_hidden_layers: layers,
      num_attention_heads: D / H,
      num_key_value_heads: D / H,
      rms_norm_eps: 1e-5,
    },
    ...{ max_position_embeddings: 2048, tie_word_embeddings: false, torch_dtype: 'bfloat16' },
  };
  writeFileSync(join(source, 'config.json'), JSON.stringify(config));
  return layers;
}

const start = () =>
  spawn(process.execPath, [cli, 'convert', source, target, '--kv-heads', '4'], { stdio: 'ignore' });
const ended = (child) => new Promise((resolve) => child.on('close', resolve));

/** Runs the converter. Returns its peak anonymous memory in MiB, sampled every 20 ms. */
async function convert() {
  const child = start();
  let most = 0;
  const timer = setInterval(() => {
    try {
      const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
      most = Math.max(most, Number(/RssAnon:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024);
    } catch {}
  }, 20);
  const code = await ended(child);
  clearInterval(timer);
  if (code !== 0) throw new Error(`gqa convert ended with ${code}`);
  return most;
}

/** Wall time, and processor time of this process's children meanwhile (NaN outside Linux), in seconds. */
const seconds = async (work) => {
  const [from, before] = [performance.now(), childrenSeconds()];
  await work();
  return { clock: (performance.now() - from) / 1000, processor: childrenSeconds() - before };
};

function childrenSeconds() {
  try {
    const fields = readFileSync('/proc/self/stat', 'utf8').split(') ')[1].split(' ');
    return (Number(fields[13]) + Number(fields[14])) / 100; // cutime and cstime, in ticks
  } catch {
    return Number.NaN;
  }
}

const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];

async function time() {
  const [copies, conversions, memory] = [[], [], []];
  const copyOnce = async () => {
    const work = () => {
      execFileSync('cp', ['-r', '--reflink=never', source, copy]);
      // fsync of each file, in a child process: its processor time counts, as the converter's does.
      execFileSync(
        'sync',
        readdirSync(copy).map((name) => join(copy, name)),
      );
    };
    copies.push(await seconds(work));
  };
  const convertOnce = async () => conversions.push(await seconds(async () => memory.push(await convert())));
  for (let round = 0; round <= Number(values.rounds); round++) {
    for (const once of round % 2 === 0 ? [copyOnce, convertOnce] : [convertOnce, copyOnce]) {
      rmSync(once === copyOnce ? copy : target, { recursive: true, force: true });
      await once();
    }
    // The first round does not count: the first use of memory is slower, in a virtual machine several times.
    if (round === 0) for (const list of [copies, conversions]) list.length = 0;
  }
  for (const kind of ['clock', 'processor']) {
    const line = (name, list) => {
      const all = list.map((one) => one[kind]);
      console.log(
        `${name.padEnd(14)} ${median(all).toFixed(2)} s  (${all.map((s) => s.toFixed(2)).join(', ')})`,
      );
      return [median(all), Math.min(...all)];
    };
    console.log(kind === 'clock' ? 'wall time' : 'processor time');
    const copied = line('cp and fsync', copies);
    const ratios = line('gqa convert', conversions).map((value, i) => (value / copied[i]).toFixed(2));
    console.log(`ratio          ${ratios[0]} of the medians, ${ratios[1]} of the minima`);
  }
  console.log(`peak anonymous memory ${Math.max(...memory).toFixed(0)} MiB`);
}

async function kill() {
  const { clock: whole } = await seconds(convert);
  const outcomes = { absent: 0, complete: 0 };
  for (let i = 0; i < 20; i++) {
    rmSync(target, { recursive: true, force: true });
    const child = start();
    const end = ended(child);
    await new Promise((resolve) => setTimeout(resolve, (1000 * whole * (i + 0.5)) / 19.5));
    child.kill('SIGKILL');
    await end;
    for (const name of readdirSync(work))
      if (name.startsWith('.out.')) rmSync(join(work, name), { recursive: true });
    if (!existsSync(target)) {
      outcomes.absent++;
      continue;
    }
    const checkpoint = await openCheckpoint(target);
    const names = readdirSync(target).sort().join(' ');
    const expected = readdirSync(source).sort().join(' ');
    if (checkpoint.shape.numKeyValueHeads !== 4 || names !== expected)
      throw new Error(`try ${i}: got ${names}`);
    await checkpoint.close();
    outcomes.complete++;
  }
  console.log(
    `killed 20 times within ${whole.toFixed(1)} s: ${outcomes.absent} absent, ${outcomes.complete} complete`,
  );
}

try {
  const layers = await generate(Number(values.gb) * 1e9);
  console.log(`${values.gb} GB, ${layers} layers, K 16 to 4`);
  await (values.kill ? kill() : time());
} finally {
  rmSync(work, { recursive: true, force: true });
}
