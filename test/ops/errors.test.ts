/** Errors of wrong calls: `op: expected …, got …`, with the numbers. */
import { beforeAll, describe, expect, test } from 'vitest';
import { open } from '../../src/backend/registry.ts';
import * as gqa from '../../src/index.ts';
import * as random from '../../src/random/index.ts';
import { backends } from './backends.ts';

const { tensor, zeros, dotProductAttention } = gqa;

beforeAll(async () => {
  await gqa.setBackend('reference');
});

/** A type error that the compiler would catch, as JavaScript callers make it. */
const wrong = (value: unknown) => value as never;

function table(rows: [string, () => unknown, new (...args: never[]) => Error, RegExp | string][]): void {
  for (const [name, call, kind, text] of rows) {
    test(name, () => {
      let error: unknown;
      try {
        call();
      } catch (thrown) {
        error = thrown;
      }
      expect(error).toBeInstanceOf(kind);
      if (typeof text === 'string') expect((error as Error).message).toBe(text);
      else expect((error as Error).message).toMatch(text);
    });
  }
}

describe('creation', () => {
  const ragged = 'tensor: ragged nested arrays: expected';
  table([
    [
      'ragged',
      () => tensor([[1, 2], [3]]),
      RangeError,
      `${ragged} an array of 2 at depth 1 of [2, 2], got an array of 1`,
    ],
    [
      'number beside array',
      () => tensor([[1], 2]),
      RangeError,
      `${ragged} an array of 1 at depth 1 of [2, 1], got 2`,
    ],
    [
      'array beside number',
      () => tensor([1, [2]]),
      RangeError,
      `${ragged} a number at depth 1 of [2], got an array of 1`,
    ],
    [
      'string',
      () => tensor(wrong(['1'])),
      TypeError,
      /expected numbers, booleans or arrays of them, got string/,
    ],
    ['undefined', () => tensor(wrong(undefined)), TypeError, /got undefined/],
    ['null', () => tensor(wrong([null])), TypeError, /got null/],
    ['mixed', () => tensor([1, true]), TypeError, /only numbers or only booleans/],
    [
      'shape',
      () => tensor([1, 2, 3], { shape: [2, 2] }),
      RangeError,
      'tensor: expected 4 values for shape [2, 2], got 3',
    ],
    [
      'negative',
      () => zeros([2, -1]),
      RangeError,
      'zeros: expected non-negative integer dimensions, got [2, -1]',
    ],
    ['no shape', () => tensor([1, 2], { shape: wrong(2) }), TypeError, 'tensor: expected a shape, got 2'],
    ['dtype', () => zeros([2], { dtype: wrong('float') }), TypeError, 'zeros: expected a dtype, got "float"'],
    [
      'blocks',
      () => zeros([32], { dtype: 'q8_0' }),
      gqa.UnsupportedError,
      /q8_0 is not supported by the reference backend/,
    ],
    ['typed array', () => tensor(wrong(new Int8Array(2))), TypeError, /got Int8Array/],
    [
      'arange',
      () => gqa.arange(0, 5, 0),
      RangeError,
      'arange: expected finite start and stop and a nonzero step, got 0, 5, 0',
    ],
  ]);
});

describe('elementwise, layout and matrix ops', () => {
  const x = () => zeros([2, 3]);
  const ints = () => tensor(Int32Array.of(1, 2));
  table([
    ['no tensor', () => gqa.exp(wrong(3)), TypeError, 'exp: expected a tensor, got 3'],
    [
      'no tensor either',
      () => gqa.add(wrong('a'), 1),
      TypeError,
      'add: expected a tensor or a number, got string',
    ],
    ['two numbers', () => gqa.add(1, 2), TypeError, 'add: expected a tensor, got none'],
    [
      'integers',
      () => gqa.exp(ints()),
      gqa.UnsupportedError,
      "exp: i32 is not supported by the reference backend; cast(x, 'f32') first",
    ],
    [
      'broadcast',
      () => gqa.mul(x(), zeros([2])),
      RangeError,
      'mul: shapes [2, 3] and [2] do not broadcast: 3 against 2',
    ],
    ['axis', () => gqa.sum(x(), { axis: 2 }), RangeError, 'sum: axis 2 is outside a tensor of rank 2'],
    ['axes', () => gqa.sum(x(), { axis: [0, -2] }), RangeError, 'sum: expected distinct axes, got [0, 0]'],
    [
      'softmax of a scalar',
      () => gqa.softmax(tensor(1)),
      RangeError,
      'softmax: expected x of rank 1 to 6, got []',
    ],
    ['gelu', () => gqa.gelu(x(), { approximate: wrong('yes') }), RangeError, /'none' or 'tanh', got "yes"/],
    [
      'reshape',
      () => gqa.reshape(x(), [4]),
      RangeError,
      'reshape: expected a shape of 6 elements, got [4] for [2, 3]',
    ],
    ['reshape -1', () => gqa.reshape(x(), [4, -1]), RangeError, /expected a shape of 6 elements/],
    ['reshape -1 twice', () => gqa.reshape(x(), [-1, -1]), RangeError, /got \[-1, -1\]/],
    [
      'transpose',
      () => gqa.transpose(x(), [0, 0]),
      RangeError,
      'transpose: expected a permutation of 2 axes, got [0, 0]',
    ],
    [
      'slice',
      () => gqa.slice(x(), [0, 2], [2, 4]),
      RangeError,
      /inside \[2, 3\], got starts \[0, 2\], limits \[2, 4\]/,
    ],
    ['slice fraction', () => gqa.slice(x(), [0.5]), RangeError, /got starts \[0\.5\]/],
    [
      'concat',
      () => gqa.concat([x(), zeros([3, 2])]),
      RangeError,
      /equal but for axis 0, got \[2, 3\] and \[3, 2\]/,
    ],
    [
      'concat dtypes',
      () => gqa.concat([x(), gqa.cast(x(), 'bf16')]),
      TypeError,
      'concat: expected one dtype, got f32 and bf16',
    ],
    ['concat nothing', () => gqa.concat([]), RangeError, /at least one/],
    [
      'broadcastTo',
      () => gqa.broadcastTo(x(), [2, 1]),
      RangeError,
      /that \[2, 3\] broadcasts to, got \[2, 1\]/,
    ],
    ['cast', () => gqa.cast(x(), 'q4_0'), gqa.UnsupportedError, /f32 to q4_0/],
    [
      'matmul',
      () => gqa.matmul(x(), x()),
      RangeError,
      'matmul: expected equal inner dimensions, got 3 of [2, 3] and 2 of [2, 3]',
    ],
    [
      'matmul rank',
      () => gqa.matmul(x(), zeros([3])),
      RangeError,
      'matmul: expected b of rank 2 or more, got [3]',
    ],
    [
      'matmul batch',
      () => gqa.matmul(zeros([2, 1, 1]), zeros([3, 1, 1])),
      RangeError,
      /do not broadcast: 2 against 3/,
    ],
    [
      'linear',
      () => gqa.linear(x(), zeros([5, 2])),
      RangeError,
      'linear: expected a weight [5, 3], got [5, 2]',
    ],
    [
      'linear bias',
      () => gqa.linear(x(), zeros([5, 3]), zeros([3])),
      RangeError,
      'linear: expected a bias [5], got [3]',
    ],
    [
      'embedding ids',
      () => gqa.embedding(x(), ints()),
      RangeError,
      'embedding: expected ids from 0 to 1, got 2',
    ],
    ['embedding dtype', () => gqa.embedding(x(), x()), TypeError, 'embedding: expected i32 ids, got f32'],
    ['rmsNorm', () => gqa.rmsNorm(x(), zeros([2])), RangeError, 'rmsNorm: expected weight [3], got [2]'],
    [
      'layerNorm',
      () => gqa.layerNorm(x(), zeros([3]), zeros([2])),
      RangeError,
      'layerNorm: expected bias [3], got [2]',
    ],
    ['rope', () => gqa.rope(zeros([2, 3, 5, 4]), zeros([3, 3]), zeros([3, 3])), RangeError, /2 \* half <= H/],
    [
      'rope tokens',
      () => gqa.rope(zeros([2, 3, 5, 4]), zeros([4, 2]), zeros([4, 2])),
      RangeError,
      'rope: expected cos [3, 2], got [4, 2]',
    ],
    ['swiglu', () => gqa.swiglu(x(), zeros([3])), RangeError, 'swiglu: expected up [2, 3], got [3]'],
    [
      'after dispose',
      () => {
        const gone = x();
        gone.dispose();
        gqa.exp(gone);
      },
      Error,
      'exp: expected a live tensor, got f32 [2, 3] after dispose()',
    ],
  ]);
});

describe('attention', () => {
  const q = () => zeros([2, 5, 6, 4]);
  const k = () => zeros([2, 7, 3, 4]);
  // Operands of options are made in the call: the backend is chosen only when the tests run.
  const call = (options: () => gqa.AttentionOptions) => () => dotProductAttention(q(), k(), k(), options());
  const op = 'dotProductAttention: expected';
  table([
    [
      'heads',
      () => dotProductAttention(zeros([2, 5, 12, 4]), zeros([2, 7, 5, 4]), zeros([2, 7, 5, 4])),
      RangeError,
      `${op} query heads N to be a multiple of key/value heads K, got N=12 and K=5`,
    ],
    [
      'head dim',
      () => dotProductAttention(q(), zeros([2, 7, 3, 5]), k()),
      RangeError,
      /same batch and head dim, got \[2, 5, 6, 4\] and \[2, 7, 3, 5\]/,
    ],
    ['batch', () => dotProductAttention(q(), zeros([1, 7, 3, 4]), k()), RangeError, /same batch/],
    [
      'value',
      () => dotProductAttention(q(), k(), zeros([2, 6, 3, 4])),
      RangeError,
      `${op} value [2, 7, 3, 4], got [2, 6, 3, 4]`,
    ],
    [
      'rank',
      () => dotProductAttention(zeros([5, 6]), k(), k()),
      RangeError,
      `${op} query of rank 3 to 4, got [5, 6]`,
    ],
    ['rank of key', () => dotProductAttention(zeros([5, 6, 4]), k(), k()), RangeError, /key of rank 3, got/],
    [
      'layout',
      call(() => ({ layout: wrong('TBNH') })),
      RangeError,
      `${op} layout 'BTNH' or 'BNTH', got "TBNH"`,
    ],
    [
      'alignment',
      call(() => ({ causalAlignment: wrong('left') })),
      RangeError,
      /'topLeft' or 'bottomRight', got "left"/,
    ],
    [
      'query offset beside an alignment',
      call(() => ({ queryOffset: 2, causalAlignment: 'topLeft' })),
      RangeError,
      `${op} causalAlignment or queryOffset, got both`,
    ],
    [
      'query offsets',
      call(() => ({ queryOffset: [2, 0.5] })),
      RangeError,
      `${op} queryOffset of 2 integers from -2147483647 to 2147483647, got [2, 0.5]`,
    ],
    ['query offset', call(() => ({ queryOffset: Number.NaN })), RangeError, /got \[NaN, NaN\]/],
    [
      'query offsets of one row',
      call(() => ({ queryOffset: [2] })),
      RangeError,
      /of 2 integers .*, got \[2\]/,
    ],
    [
      'query offset kind',
      call(() => ({ queryOffset: wrong('2') })),
      TypeError,
      /or an Int32Array, got string/,
    ],
    ['mask dtype', call(() => ({ mask: zeros([5, 7]) })), TypeError, /mask of bool or u8, got f32/],
    [
      'mask shape',
      call(() => ({ mask: zeros([5, 6], { dtype: 'bool' }) })),
      RangeError,
      `${op} mask to broadcast to [B, N, T, S] [2, 6, 5, 7], got [5, 6]`,
    ],
    ['bias shape', call(() => ({ bias: zeros([1, 1, 1, 5, 7]) })), RangeError, /bias to broadcast/],
    ['bias dtype', call(() => ({ bias: zeros([5, 7], { dtype: 'i32' }) })), gqa.UnsupportedError, /i32/],
    ['scale', call(() => ({ scale: wrong('1') })), TypeError, /scale to be a number, got string/],
    ['window', call(() => ({ localWindowSize: [-1, 0] })), RangeError, /non-negative integers, got -1, 0/],
    ['no window', call(() => ({ localWindowSize: wrong(null) })), TypeError, /or \[left, right\], got null/],
    ['three windows', call(() => ({ localWindowSize: wrong([1, 2, 3]) })), TypeError, /got an array of 3/],
    [
      'dropoutKey of another kind',
      call(() => ({ dropoutRate: 0.5, dropoutKey: wrong(5) })),
      TypeError,
      'dotProductAttention: expected dropoutKey as a u32 tensor or two words, got 5',
    ],
    ['window fraction', call(() => ({ localWindowSize: 1.5 })), RangeError, /got 1.5, 1.5/],
    [
      'soft cap',
      call(() => ({ logitsSoftCap: -1 })),
      RangeError,
      `${op} logitsSoftCap to be positive, got -1`,
    ],
    ['sinks', call(() => ({ sinks: zeros([3]) })), RangeError, `${op} sinks [6], got [3]`],
    [
      'lengths',
      call(() => ({ keyValueSeqLengths: [3, 8] })),
      RangeError,
      `${op} keyValueSeqLengths of 2 integers from 0 to 7, got [3, 8]`,
    ],
    [
      'too few lengths',
      call(() => ({ querySeqLengths: [3] })),
      RangeError,
      /querySeqLengths of 2 integers from 0 to 5, got \[3\]/,
    ],
    [
      'lengths dtype',
      call(() => ({ querySeqLengths: zeros([2]) })),
      TypeError,
      /querySeqLengths of i32, got f32/,
    ],
    [
      'one length',
      call(() => ({ querySeqLengths: wrong(3) })),
      TypeError,
      /as an array, an Int32Array or an i32 tensor, got 3/,
    ],
    ['dropout rate', call(() => ({ dropoutRate: 1 })), RangeError, `${op} 0 <= dropoutRate < 1, got 1`],
    [
      'dropout key',
      call(() => ({ dropoutRate: 0.5 })),
      TypeError,
      /a dropoutKey with dropoutRate 0.5, got none/,
    ],
    [
      'dropout key words',
      call(() => ({ dropoutRate: 0.5, dropoutKey: [1, -1] })),
      RangeError,
      /two 32-bit words, got \[1, -1\]/,
    ],
    [
      'query dtype',
      () => dotProductAttention(zeros([2, 5, 6, 4], { dtype: 'i32' }), k(), k()),
      gqa.UnsupportedError,
      /i32/,
    ],
    [
      'numGroups',
      () => gqa.groupedQueryAttention(zeros([1, 4, 3, 2]), zeros([1, 2, 3, 2]), zeros([1, 2, 3, 2]), 4),
      RangeError,
      'groupedQueryAttention: expected K and V with numGroups=4 heads, got [1, 2, 3, 2] and [1, 2, 3, 2]',
    ],
    [
      'numGroups does not divide',
      () => gqa.groupedQueryAttention(zeros([1, 4, 3, 2]), zeros([1, 3, 3, 2]), zeros([1, 3, 3, 2]), 3),
      RangeError,
      'groupedQueryAttention: expected numGroups to divide the heads of Q, got 3 and 4',
    ],
    [
      'K and V of different lengths',
      () => gqa.groupedQueryAttention(zeros([1, 4, 3, 2]), zeros([1, 2, 1, 2]), zeros([1, 2, 3, 2]), 2),
      RangeError,
      'groupedQueryAttention: expected K and V with the same batch and seq, got [1, 2, 1, 2] and [1, 2, 3, 2]',
    ],
    [
      'Q and K of different batches',
      () => gqa.groupedQueryAttention(zeros([2, 4, 3, 2]), zeros([1, 2, 3, 2]), zeros([1, 2, 3, 2]), 2),
      RangeError,
      'groupedQueryAttention: expected Q and K with the same batch and d_k, got [2, 4, 3, 2] and [1, 2, 3, 2]',
    ],
    ['numGroups 0', () => gqa.groupedQueryAttention([], [], [], 0), RangeError, /positive integer, got 0/],
  ]);
});

const other = backends.find(({ name }) => name !== 'reference');
test.skipIf(!other)('operands of two backends', async () => {
  const here = zeros([2]);
  await gqa.setBackend(other?.name ?? 'wasm');
  const there = zeros([2]);
  await gqa.setBackend('reference');
  expect(() => gqa.add(here, there)).toThrow(
    `add: expected operands on one backend, got reference and ${other?.name}`,
  );
});

test.skipIf(!other)('f64 outside the reference backend', async () => {
  await gqa.setBackend(other?.name ?? 'wasm');
  const x = tensor(Float64Array.of(1, 2));
  expect(x.dtype).toBe('f32');
  expect(() => gqa.cast(x, 'f64')).toThrow(gqa.UnsupportedError);
  expect(() => tensor([1], { dtype: 'f64' })).toThrow('only the reference backend has f64');
  await gqa.setBackend('reference');
  expect(tensor(Float64Array.of(1, 2)).dtype).toBe('f64');
});

describe('arguments of no use at all', () => {
  const listKind = (op: string, name: string) => `${op}: expected ${name} to be a list of numbers, got`;
  const key = random.key(0);
  table([
    ['reshape', () => gqa.reshape(zeros([2]), wrong(2)), TypeError, `${listKind('reshape', 'shape')} 2`],
    [
      'transpose',
      () => gqa.transpose(zeros([2]), wrong(1)),
      TypeError,
      `${listKind('transpose', 'permutation')} 1`,
    ],
    ['starts', () => gqa.slice(zeros([2]), wrong('0')), TypeError, `${listKind('slice', 'starts')} string`],
    [
      'limits',
      () => gqa.slice(zeros([2]), [0], wrong(zeros([1]))),
      TypeError,
      `${listKind('slice', 'limits')} Tensor`,
    ],
    [
      'an object for a dtype',
      () => zeros([1], { dtype: wrong(Object.create(null)) }),
      TypeError,
      /^zeros: expected/,
    ],
    [
      'a symbol for a seed',
      () => random.key(wrong(Symbol('a'))),
      TypeError,
      'key: expected an integer seed, got symbol',
    ],
    [
      'a symbol for a count',
      () => random.split(key, wrong(Symbol('a'))),
      RangeError,
      /^split: .*got symbol$/,
    ],
    ['an object for data', () => random.foldIn(key, wrong({})), RangeError, /^foldIn: .*got Object$/],
    [
      'a symbol for a bound',
      () => random.randint(key, [1], 0, wrong(Symbol('a'))),
      RangeError,
      /^randint: .*got 0 and symbol$/,
    ],
    [
      'a symbol for p',
      () => random.bernoulli(key, wrong(Symbol('a'))),
      TypeError,
      'bernoulli: expected a number, got symbol',
    ],
    [
      'a tensor that is no key',
      () => random.permutation(wrong(zeros([2])), 1),
      TypeError,
      'permutation: expected a key (u32 [2]), got f32 [2]',
    ],
    ['no key', () => random.permutation(wrong({}), 1), TypeError, 'permutation: expected a key, got object'],
  ]);
});

describe('where, argmax and topK', () => {
  const condition = () => gqa.tensor([1, 0], { dtype: 'bool' });
  const typed = (dtype: 'i32' | 'u8' | 'bool') => gqa.ones([2], { dtype });
  table([
    [
      'a fraction among integers',
      () => gqa.where(condition(), typed('i32'), 3.5),
      RangeError,
      'where: expected a number that i32 has, got 3.5',
    ],
    [
      'a number beyond i32',
      () => gqa.where(condition(), 1e20, typed('i32')),
      RangeError,
      'where: expected a number that i32 has, got 100000000000000000000',
    ],
    [
      'a negative u8',
      () => gqa.where(condition(), typed('u8'), -1),
      RangeError,
      'where: expected a number that u8 has, got -1',
    ],
    [
      'a bool of 2',
      () => gqa.where(condition(), typed('bool'), 2),
      RangeError,
      'where: expected a number that bool has, got 2',
    ],
    [
      'argmax of integers',
      () => gqa.argmax(typed('i32')),
      gqa.UnsupportedError,
      /^argmax: i32 is not supported/,
    ],
    ['topK of bools', () => gqa.topK(typed('bool'), 1), gqa.UnsupportedError, /^topK: bool is not supported/],
  ]);
});

test('more bytes than can be counted are out of memory, not a small buffer', () => {
  for (const backend of backends.filter(({ name }) => name !== 'reference')) {
    for (const bytes of [2 ** 53, 2 ** 64, Number.NaN]) {
      expect(() => backend.allocate(bytes)).toThrow(RangeError);
    }
  }
});

test('an unknown backend', () => {
  expect(() => open(wrong('cuda'))).toThrow(RangeError);
});
