/** A view that does not fit its memory is refused with the numbers, on every backend. */
import { describe, expect, test } from 'vitest';
import { StaticCache } from '../../src/cache/index.ts';
import * as gqa from '../../src/index.ts';
import { attend, type CacheView } from '../../src/ops/attend.ts';
import { backends } from '../ops/backends.ts';

describe.each(backends.map(({ name }) => name))('%s', (name) => {
  const made = async () => {
    await gqa.setBackend(name);
    const layers = [{ numKeyValueHeads: 1, headDim: 4 }];
    const cache = new StaticCache({ backend: gqa.getBackend(), layers, batchSize: 1, maxLength: 4 });
    cache.reserve(2);
    cache.write(0, gqa.ones([1, 2, 1, 4]), gqa.ones([1, 2, 1, 4]));
    const view = cache.view(0);
    const [segment] = view.rows[0].segments;
    const of = (length: number, change: object): CacheView => ({
      ...view,
      rows: [{ length, segments: [{ ...segment, ...change }] }],
    });
    return { cache, view, of, query: gqa.ones([1, 1, 1, 4]) };
  };

  test('a piece outside of its memory', async () => {
    const { view, of, query } = await made();
    expect(attend(query, view).dataSync()).toEqual(new Float32Array(4).fill(1));
    const refused = (changed: CacheView, message: string) => {
      expect(() => attend(query, changed)).toThrow(RangeError);
      expect(() => attend(query, changed)).toThrow(message);
    };
    refused(of(5, { length: 5 }), "a view's key inside its 64 bytes of f32, got 5 tokens from byte 0 to 80");
    refused(of(2, { keyByteOffset: 48 }), 'got 2 tokens from byte 48 to 80');
    refused(
      of(2, { valueByteOffset: 2 }),
      "a view's value inside its 64 bytes of f32, got 2 tokens from byte 2 to 34",
    );
    refused(
      of(2, { keyByteOffset: -16 }),
      'expected keyByteOffset of a view to be an integer from 0 on, got -16',
    );
    refused(of(2, { keyByteOffset: Number.NaN }), 'got NaN');
    refused(of(3, {}), 'expected segments of row 0 to hold from 3 to');
    refused(of(-1, {}), 'expected the length of row 0 of a view to be an integer from 0 on, got -1');
    refused({ ...view, keyTokenStride: 1e6 }, 'got 2 tokens from byte 0 to 4000016');
    refused(
      { ...view, valueHeadStride: -4 },
      'expected valueHeadStride of a view to be an integer from 0 on, got -4',
    );
    refused(
      { ...view, numKeyValueHeads: 0 },
      'expected numKeyValueHeads of a view to be an integer from 1 on, got 0',
    );
    refused({ ...view, valueHeadDim: 40 }, "a view's value inside its 64 bytes");
    for (const window of [Number.NaN, 1.5, -5, 0]) refused({ ...view, window }, 'expected window of a view');
  });

  test('memory of another backend, of none, and of a cache that was disposed', async () => {
    const { cache, of, view, query } = await made();
    const other = name === 'wasm' ? 'reference' : 'wasm';
    await gqa.setBackend(other);
    const elsewhere = gqa.ones([4, 4]);
    await gqa.setBackend(name);
    expect(() => attend(query, of(2, { value: elsewhere.storage }))).toThrow(
      `on one backend, got ${name} and ${other}`,
    );
    expect(() => attend(query, of(2, { key: { byteLength: 64 } }))).toThrow(TypeError);
    expect(() => attend(query, { ...view, keyDtype: 'q4_0' })).toThrow(gqa.UnsupportedError);
    expect(() => attend(query, { ...view, keyDtype: 'none' as 'f32' })).toThrow(TypeError);
    cache.dispose();
    expect(() => attend(query, view)).toThrow('expected the view of a live cache, got one after dispose()');
  });
});
