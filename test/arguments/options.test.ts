/** Checks of options objects: names, kinds, and the nearest name that an error suggests. */
import { describe, expect, test } from 'vitest';
import { aBoolean, aNumber, anything } from '../../src/arguments/kinds.ts';
import { nearestName } from '../../src/arguments/nearest-name.ts';
import { checkOptions, optionKinds } from '../../src/arguments/options.ts';

interface Options {
  readonly isCausal?: boolean;
  readonly scale?: number;
  readonly numKeyValueHeads?: number;
  readonly layout?: 'BTNH' | 'BNTH';
}

const KINDS = optionKinds<Options>({
  isCausal: aBoolean,
  scale: aNumber,
  numKeyValueHeads: aNumber,
  layout: anything,
});
const check = (options: unknown) => () => checkOptions('op', options, KINDS);

describe('checkOptions', () => {
  test.each([
    ['none', {}],
    ['known ones', { isCausal: true, scale: 1, layout: 'BTNH' }],
    ['a known one that is undefined', { scale: undefined }],
    ['an object without a prototype', Object.assign(Object.create(null), { scale: 1 })],
    ['inherited ones', Object.create({ scale: 1 })],
    [
      'properties of a class',
      new (class {
        scale = 1;
      })(),
    ],
  ])('takes %s', (_, options) => {
    expect(check(options)).not.toThrow();
  });

  test.each([
    [{ is_causal: true }, 'op: expected known options, got is_causal; did you mean isCausal?'],
    [{ scale: 1, causal: true }, 'op: expected known options, got causal; did you mean isCausal?'],
    [{ causal: undefined }, 'op: expected known options, got causal; did you mean isCausal?'],
    [Object.create({ causal: true }), 'op: expected known options, got causal; did you mean isCausal?'],
    [{ foo: 1 }, 'op: expected known options, got foo; known are isCausal, scale, numKeyValueHeads, layout'],
    [{ constructor: 1 }, 'op: expected known options, got constructor; known are'],
    [{ toString: 1 }, 'op: expected known options, got toString; known are'],
    [JSON.parse('{ "__proto__": 1 }'), 'op: expected known options, got __proto__; known are'],
  ])('refuses the unknown name in %o', (options, message) => {
    expect(check(options)).toThrow(TypeError);
    expect(check(options)).toThrow(message);
  });

  test.each([
    [{ isCausal: 'false' }, 'op: expected isCausal to be a boolean, got string'],
    [{ isCausal: 1 }, 'op: expected isCausal to be a boolean, got 1'],
    [{ isCausal: null }, 'op: expected isCausal to be a boolean, got null'],
    [{ scale: '1' }, 'op: expected scale to be a number, got string'],
    [{ scale: 1n }, 'op: expected scale to be a number, got bigint'],
  ])('refuses the wrong kind in %o', (options, message) => {
    expect(check(options)).toThrow(TypeError);
    expect(check(options)).toThrow(message);
  });

  test.each([
    [null, 'op: expected an object of options, got null'],
    [undefined, 'op: expected an object of options, got undefined'],
    [[1], 'op: expected an object of options, got an array of 1'],
    [true, 'op: expected an object of options, got true; did you mean { isCausal }?'],
    [2, 'op: expected an object of options, got 2; did you mean { scale } or { numKeyValueHeads }?'],
    [new Float32Array(2), 'op: expected an object of options, got Float32Array'],
    [Promise.resolve(), 'op: expected an object of options, got Promise'],
    [new Map([['scale', 1]]), 'op: expected an object of options, got Map'],
  ])('refuses %o in place of options', (options, message) => {
    expect(check(options)).toThrow(TypeError);
    expect(check(options)).toThrow(message);
  });
});

test.each([
  ['is_causal', 'isCausal'],
  ['causal', 'isCausal'],
  ['IsCausal', 'isCausal'],
  ['isCasual', 'isCausal'],
  ['num_kv_heads', 'numKeyValueHeads'],
  ['n_kv_heads', 'numKeyValueHeads'],
  ['num_key_value_heads', 'numKeyValueHeads'],
  ['numKVHeads', 'numKeyValueHeads'],
  ['num_heads', 'numHeads'],
  ['n_heads', 'numHeads'],
  ['dropout_rate', 'dropoutRate'],
  ['dropout_p', 'dropoutRate'],
  ['dropout', 'dropoutRate'],
  ['attn_mask', 'mask'],
  ['softmax_scale', 'scale'],
  ['window_size', 'localWindowSize'],
  ['softcap', 'logitsSoftCap'],
  ['top_k', 'topK'],
  ['max_new_tokens', 'maxNewTokens'],
  ['max_tokens', 'maxNewTokens'],
  ['lr', 'learningRate'],
  ['eps', 'epsilon'],
  ['sliding_window', 'localWindowSize'],
  ['logit_cap', 'logitsSoftCap'],
  ['return_lse', 'returnLogSumExp'],
  ['dim', 'axis'],
  ['keepdim', 'keepDims'],
])('the name nearest to %s is %s', (name, nearest) => {
  const known = ['isCausal', 'bias', 'mask', 'scale', 'numHeads', 'numKeyValueHeads', 'dropoutRate'];
  const more = [
    'localWindowSize',
    'logitsSoftCap',
    'topK',
    'maxNewTokens',
    'learningRate',
    'epsilon',
    'returnLogSumExp',
  ];
  const reductions = ['axis', 'keepDims'];
  expect(nearestName(name, [...known, ...more, ...reductions])).toBe(nearest);
});

test.each(['foo', 'enable_gqa', 'device', 'x', ''])('no name is near to "%s"', (name) => {
  expect(nearestName(name, ['isCausal', 'mask', 'scale', 'numHeads', 'dropoutRate'])).toBeUndefined();
});
