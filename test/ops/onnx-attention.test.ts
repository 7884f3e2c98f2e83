/**
 * ONNX's own node cases of its operator Attention (test/golden/onnx), said with our ops: masks, caches with
 * fewer or more queries than new keys, scores and weights as outputs, windows, lengths. Cases with a past run
 * on one tensor of all keys and, by `attend`, on a cache.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { StaticCache } from '../../src/cache/index.ts';
import {
  type AttentionWeightsOptions,
  add,
  attend,
  broadcastTo,
  cast,
  concat,
  type DType,
  dotProductAttention,
  dotProductAttentionWeights,
  getBackend,
  matmul,
  mul,
  reshape,
  scope,
  setBackend,
  type Tensor,
  tanh,
  tensor,
  transpose,
} from '../../src/index.ts';
import { expectClose, load, toTensor } from '../nn/golden.ts';
import { backends } from './backends.ts';
import { readGolden } from './golden.ts';

interface NodeCase {
  readonly name: string;
  readonly attributes: Readonly<Record<string, number>>;
  readonly dtypes: Readonly<Record<string, string>>;
}

const { cases } = readGolden<NodeCase>('onnx/attention');
const arrays = load('onnx/attention');
const DTYPES: Record<string, DType> = { float32: 'f32', float16: 'f16', bfloat16: 'bf16', bool: 'bool' };
/** Several roundings of the reference implementation, which computes in f16 or bf16 throughout. */
const TOLERANCE: Record<string, number> = { float32: 1e-6, float16: 4e-3, bfloat16: 3e-2 };

/** An input of a case in its dtype; keys, values and queries as `[B, heads, T, H]`. */
function input({ name, dtypes, attributes }: NodeCase, what: string): Tensor | undefined {
  if (!(what in dtypes)) return undefined;
  const x = cast(toTensor(arrays[`${name}/${what}`]), DTYPES[dtypes[what]]);
  if (x.shape.length !== 3 || !['Q', 'K', 'V'].includes(what)) return x;
  const heads = what === 'Q' ? attributes.q_num_heads : attributes.kv_num_heads;
  return transpose(reshape(x, [x.shape[0], x.shape[1], heads, -1]), [0, 2, 1, 3]);
}

/** The mask or bias, its last axis filled up to S keys with ones that are not seen. */
function scoreInput(one: NodeCase, S: number): { mask?: Tensor; bias?: Tensor } {
  const given = input(one, 'attn_mask');
  if (!given) return {};
  const isMask = given.dtype === 'bool';
  const x = isMask ? given : cast(given, 'f32');
  const more = S - (x.shape.at(-1) as number);
  const shape = x.shape.with(-1, more);
  const count = shape.reduce((a, b) => a * b, 1);
  const hidden = tensor(new Float32Array(count).fill(isMask ? 0 : Number.NEGATIVE_INFINITY), { shape });
  const whole = more === 0 ? x : concat([x, cast(hidden, x.dtype)], -1);
  return isMask ? { mask: whole } : { bias: whole };
}

/** What both ways of saying a case have in common. */
function parts(one: NodeCase) {
  const { attributes } = one;
  const [q, k, v] = ['Q', 'K', 'V'].map((what) => input(one, what) as Tensor);
  const [pastKey, pastValue] = ['past_key', 'past_value'].map((what) => input(one, what));
  const past = pastKey?.shape[2] ?? 0;
  const [B, , T] = q.shape;
  const S = past + k.shape[2];
  const held = arrays[`${one.name}/nonpad_kv_seqlen`]?.values;
  const lengths = held && Array.from(held, Number);
  const side = (width: number | undefined) => (width === undefined || width < 0 ? Infinity : width);
  const options = {
    ...scoreInput(one, S),
    scale: attributes.scale,
    logitsSoftCap: attributes.softcap,
    isCausal: attributes.is_causal === 1,
    localWindowSize: [side(attributes.left_window_size), side(attributes.right_window_size)] as const,
  };
  const offsets = lengths?.map((length) => length - T) ?? new Array<number>(B).fill(past);
  return { q, k, v, pastKey, pastValue, past, S, lengths, options, offsets };
}

/** Y as `[B, N, T, Hv]`, and the second output, by tensors of all keys and values. */
function byTensors(one: NodeCase): { Y: Tensor; scores: Tensor } {
  const { q, k, v, pastKey, pastValue, lengths, options, offsets } = parts(one);
  const keys = pastKey ? concat([pastKey, k], 2) : k;
  const values = pastValue ? concat([pastValue, v], 2) : v;
  const own: AttentionWeightsOptions = {
    ...{ ...options, layout: 'BNTH', queryOffset: offsets, keyValueSeqLengths: lengths },
  };
  const mode = one.attributes.qk_matmul_output_mode ?? 0;
  const scores =
    mode === 3 ? dotProductAttentionWeights(q, keys, own) : scoresBeforeSoftmax(q, keys, own, mode);
  return { Y: dotProductAttention(q, keys, values, own), scores };
}

/** Mode 0: the scaled product; 1: capped; 2: with bias and mask. */
function scoresBeforeSoftmax(q: Tensor, k: Tensor, options: AttentionWeightsOptions, mode: number): Tensor {
  const [B, N, T, H] = q.shape;
  const [, K, S] = k.shape;
  const grouped = reshape(cast(q, 'f32'), [B, K, (N / K) * T, H]);
  const products = matmul(grouped, cast(k, 'f32'), { transposeB: true });
  const scaled = reshape(mul(products, options.scale ?? 1 / Math.sqrt(H)), [B, N, T, S]);
  const cap = options.logitsSoftCap;
  const capped = mode > 0 && cap ? mul(tanh(mul(scaled, 1 / cap)), cap) : scaled;
  if (mode < 2) return capped;
  const offset = (options.queryOffset as readonly number[])[0];
  const later = Array.from({ length: T * S }, (_, i) =>
    options.isCausal && i % S > Math.floor(i / S) + offset ? Number.NEGATIVE_INFINITY : 0,
  );
  const causal = tensor(later, { shape: [T, S] });
  return add(capped, broadcastTo(add(causal, options.bias as Tensor), [B, N, T, S]));
}

/** Y as `[B, N, T, Hv]` over a cache that holds the past. */
function byCache(one: NodeCase): Tensor {
  const { q, k, v, pastKey, pastValue, past, S, options, offsets } = parts(one);
  const rows = (x: Tensor) => transpose(cast(x, 'f32'), [0, 2, 1, 3]);
  const layer = { numKeyValueHeads: k.shape[1], headDim: k.shape[3], valueHeadDim: v.shape[3] };
  const cache = new StaticCache({
    ...{ backend: getBackend(), layers: [layer], batchSize: q.shape[0], maxLength: S },
  });
  cache.reserve(past);
  cache.write(0, rows(pastKey as Tensor), rows(pastValue as Tensor));
  cache.commit();
  cache.reserve(S - past);
  cache.write(0, rows(k), rows(v));
  const out = attend(transpose(q, [0, 2, 1, 3]), cache.view(0), { ...options, queryOffsets: offsets });
  cache.dispose();
  return transpose(out, [0, 2, 1, 3]);
}

function check(one: NodeCase, what: string, got: Tensor): void {
  const want = arrays[`${one.name}/${what}`];
  const inLayout =
    what === 'Y' && want.shape.length === 3 ? reshape(transpose(got, [0, 2, 1, 3]), want.shape) : got;
  expect([...inLayout.shape]).toEqual(want.shape);
  const [ours, theirs] = [inLayout.dataSync(), want.values].map((values) => Array.from(values, Number));
  const finite = (values: number[]) => values.map((x) => (x === Number.NEGATIVE_INFINITY ? -1e3 : x));
  expectClose(finite(ours), finite(theirs), TOLERANCE[one.dtypes[what]]);
}

test('all of the cases', () => {
  const count = (...names: string[]) =>
    cases.filter(({ dtypes }) => names.every((name) => name in dtypes)).length;
  const cached = count('past_key', 'attn_mask') + count('nonpad_kv_seqlen', 'attn_mask');
  expect([cases.length, cached, count('qk_matmul_output')]).toEqual([93, 27, 18]);
});

describe.each(backends.map(({ name }) => name))('on %s', (backend) => {
  let before: string;
  beforeAll(async () => {
    before = getBackend().name;
    await setBackend(backend);
  });
  afterAll(() => setBackend(before as 'native'));

  test.each(cases.map((one) => [one.name, one] as const))('%s', (_, one) => {
    scope(() => {
      const { Y, scores } = byTensors(one);
      check(one, 'Y', Y);
      if ('qk_matmul_output' in one.dtypes) check(one, 'qk_matmul_output', scores);
      if ('past_key' in one.dtypes) check(one, 'Y', byCache(one));
    });
  });
});
