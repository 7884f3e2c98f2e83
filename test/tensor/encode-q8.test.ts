/** q8_0 as the reference and the kernels write it: the same bytes, with errors of at most half a scale. */

import { expect, test } from 'vitest';
import { convert } from '../../src/backend/calls/copy.ts';
import { decode } from '../../src/tensor/encode.ts';
import { encodeQ8 } from '../../src/tensor/encode-q8.ts';
import { halfToNumber } from '../../src/tensor/half.ts';
import { release } from '../../src/tensor/storage.ts';
import { backends } from '../ops/backends.ts';

/** Blocks of many sizes, with zeros, ties, infinities and NaN among them. */
function blocks(count: number): Float32Array {
  const values = new Float32Array(count * 32);
  let state = 1;
  for (let i = 0; i < values.length; i++) {
    state = (state * 48271) % 2147483647;
    values[i] = (state / 2147483647 - 0.5) * 2 ** ((Math.floor(i / 32) % 41) - 20);
  }
  values.fill(0, 32, 64);
  for (let i = 0; i < 32; i++) values[64 + i] = (i - 16.5) / 2; // half codes when the scale is 1/2 …
  values[64] = 63.5; // … and it is
  values[96] = Number.NaN;
  values[130] = -Infinity;
  values[161] = 1e9;
  return values;
}

test('half a scale at most', () => {
  const values = blocks(500);
  const bytes = encodeQ8(values);
  const back = decode('q8_0', bytes, values.length);
  for (let block = 6; block < 500; block++) {
    const scale = halfToNumber(bytes[block * 34] | (bytes[block * 34 + 1] << 8));
    const tiny = scale < 2 ** -14 ? 64 * 2 ** -24 : 0;
    for (let i = block * 32; i < block * 32 + 32; i++) {
      expect(Math.abs(back[i] - values[i])).toBeLessThanOrEqual(
        scale / 2 + tiny + 1e-7 * Math.abs(values[i]),
      );
    }
  }
  expect([...back.slice(32, 64)]).toEqual(new Array(32).fill(0));
  expect(back.slice(96, 192).every(Number.isNaN)).toBe(true);
});

test.each(backends)('$name writes the same bytes', (backend) => {
  const values = blocks(600);
  const x = { storage: backend.allocate(values.byteLength), dtype: 'f32', shape: [values.length] } as const;
  const out = { storage: backend.allocate(601 * 34), dtype: 'q8_0', shape: [601 * 32] } as const;
  backend.write(x.storage, new Uint8Array(values.buffer));
  backend.run(convert, { out, outOffset: 32, x, xOffset: 64, count: values.length - 64 });
  const want = encodeQ8(values.subarray(64));
  expect(Buffer.compare(Buffer.from(backend.read(out.storage, 34, want.length)), Buffer.from(want))).toBe(0);
  release(x.storage);
  release(out.storage);
});
