/**
 * The method `similar`: invariant transforms change nothing, equal heads are found and merged without loss,
 * and the text decides the groups.
 */
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { openCheckpoint, writeSafetensors } from '../../src/checkpoint/index.ts';
import { alignFreely, alignPlane, squareRoots, times, transposed } from '../../src/convert/align-heads.ts';
import { similarGroups } from '../../src/convert/group-heads.ts';
import { convertCheckpoint } from '../../src/convert/index.ts';
import { leadingEigen, symmetricEigen } from '../../src/convert/symmetric-eigen.ts';
import { expectClose, Golden } from '../models/golden.ts';
import { contentOf, FAMILIES, freshPath, logitsOf, multiHead, removeFolders } from './folders.ts';

afterAll(removeFolders);

/** Numbers in (-1, 1), the same every time. */
function noise(count: number, seed = 1): Float64Array {
  let state = seed;
  return Float64Array.from({ length: count }, () => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return state / 2 ** 30 - 1;
  });
}

/** x^T x of x `[S, n]` */
function moments(x: Float64Array, S: number, n: number): Float64Array {
  const out = new Float64Array(n * n);
  for (let s = 0; s < S; s++) {
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) out[i * n + j] += x[s * n + i] * x[s * n + j];
  }
  return out;
}

describe('linear algebra', () => {
  test.each([1, 2, 7, 40])('eigenvectors of a symmetric matrix of side %i', (n) => {
    const matrix = moments(noise(n * (n + 3)), n + 3, n);
    const { values, vectors } = symmetricEigen(matrix, n);
    const again = new Float64Array(n * n);
    for (let e = 0; e < n; e++) {
      for (let i = 0; i < n; i++) {
        for (let j = 0; j < n; j++) again[i * n + j] += values[e] * vectors[e * n + i] * vectors[e * n + j];
      }
    }
    expectClose(Float32Array.from(again), Float32Array.from(matrix), 1e-6);
    expect([...values]).toEqual([...values].sort((a, b) => b - a));
  });

  test('the leading ones of a large matrix, by iteration', () => {
    const n = 600;
    const matrix = moments(
      noise(20 * n).map((value, i) => value * 0.6 ** Math.floor(i / n)),
      20,
      n,
    );
    const { values, vectors } = leadingEigen(matrix, n, 6);
    for (let e = 0; e < 6; e++) {
      const own = vectors.subarray(e * n, (e + 1) * n);
      const image = Float64Array.from({ length: n }, (_, i) =>
        own.reduce((sum, x, j) => sum + matrix[i * n + j] * x, 0),
      );
      const error = Math.hypot(...image.map((x, i) => x - values[e] * own[i]));
      expect(error / values[0]).toBeLessThan(0.02);
    }
  });

  test('square roots', () => {
    const matrix = moments(noise(40), 8, 5);
    const { root, inverse } = squareRoots(matrix, 5);
    expectClose(Float32Array.from(times(root, root, 5, 5)), Float32Array.from(matrix), 1e-6);
    const one = times(root, inverse, 5, 5);
    for (const [i, value] of one.entries()) expect(value).toBeCloseTo(i % 6 === 0 ? 1 : 0, 8);
  });
});

describe('alignment', () => {
  test('heads that are turned copies of one become one without loss', () => {
    const [S, h] = [50, 4];
    const base = noise(S * h, 3);
    const turns = [noise(h * h, 5), noise(h * h, 7), noise(h * h, 9)];
    const x = new Float64Array(S * 3 * h);
    for (let s = 0; s < S; s++) {
      for (const [j, turn] of turns.entries()) {
        x.set(times(turn, base.subarray(s * h, (s + 1) * h), h, 1), (s * 3 + j) * h);
      }
    }
    const metrics = [1, 2, 3].map((seed) => moments(noise(20, seed + 20), 5, h));
    const { pool, restore } = alignFreely(moments(x, S, 3 * h), metrics, h);
    for (let s = 0; s < S; s++) {
      const heads = turns.map((_, j) => x.subarray((s * 3 + j) * h, (s * 3 + j + 1) * h));
      const common = new Float64Array(h);
      for (const [j, head] of heads.entries()) {
        for (const [i, value] of times(pool[j], head, h, 1).entries()) common[i] += value;
      }
      for (const [j, head] of heads.entries()) {
        for (const [i, value] of times(restore[j], common, h, 1).entries())
          expect(value).toBeCloseTo(head[i], 4);
      }
    }
  });

  test('a plane of turned copies too, by complex numbers', () => {
    const z = [
      [1, 0],
      [0.6, 0.8],
      [0, -2],
    ];
    const re = Float64Array.from(
      { length: 9 },
      (_, i) => z[Math.floor(i / 3)][0] * z[i % 3][0] + z[Math.floor(i / 3)][1] * z[i % 3][1],
    );
    const im = Float64Array.from(
      { length: 9 },
      (_, i) => z[Math.floor(i / 3)][1] * z[i % 3][0] - z[Math.floor(i / 3)][0] * z[i % 3][1],
    );
    const { pool, restore } = alignPlane(re, im, [1, 5, 0.2]);
    const sum = pool.map(([a, b], j) => [a * z[j][0] - b * z[j][1], a * z[j][1] + b * z[j][0]]);
    const common = [0, 1].map((part) => sum.reduce((total, value) => total + value[part], 0));
    restore.forEach(([a, b], j) => {
      expect(a * common[0] - b * common[1]).toBeCloseTo(z[j][0], 6);
      expect(a * common[1] + b * common[0]).toBeCloseTo(z[j][1], 6);
    });
  });

  test('groups', () => {
    // 0 and 3 alike, 1 and 5, 2 and 4
    const pairs = [
      [0, 3],
      [1, 5],
      [2, 4],
    ];
    const similarity = new Float64Array(36).fill(0.1);
    for (const [a, b] of pairs)
      for (const [x, y] of [
        [a, b],
        [b, a],
      ])
        similarity[x * 6 + y] = 0.9;
    expect(similarGroups(similarity, 6, 3)).toEqual(pairs);
    expect(similarGroups(similarity, 6, 1)).toEqual([[0, 1, 2, 3, 4, 5]]);
  });

  test('a transpose', () => {
    expect([...transposed(Float64Array.of(1, 2, 3, 4), 2)]).toEqual([1, 3, 2, 4]);
  });
});

const ONE = ['gpt2', 'gpt_bigcode'];

/**
 * Old head and the head it becomes a copy of, so that three are enough; for GPT-2, whose class has one or
 * all, one.
 */
function copies(family: string): (readonly [head: number, source: number])[] {
  const sources = ONE.includes(family) ? [0, 0, 0, 0, 0, 0] : [0, 1, 2, 1, 2, 0];
  return sources.map((source, head) => [head, source] as const);
}

/** A copy of a multi-head model whose key/value heads are such copies. */
async function doubled(family: string): Promise<string> {
  const to = freshPath('doubled');
  cpSync(multiHead(family), to, { recursive: true });
  await using checkpoint = await openCheckpoint(multiHead(family));
  const tensors: Record<string, { dtype: 'f32'; shape: readonly number[]; data: Float32Array }> = {};
  for (const { name, shape } of checkpoint.tensors.values()) {
    const bytes = await checkpoint.readBytes(name);
    const data = new Float32Array(bytes.slice().buffer);
    /** Heads of H rows, the first at row `first`, the next `stride` heads on. */
    const again = (first: number, rowLength: number, H: number, stride = 1) => {
      for (const [head, source] of copies(family)) {
        const [to, from] = [head, source].map((at) => (first + at * stride * H) * rowLength);
        data.copyWithin(to, from, from + H * rowLength);
      }
    };
    const rowLength = shape.length === 1 ? 1 : shape[1];
    const isHeads = /self_attn\.([kv]_proj|k_norm)/.test(name) && shape[0] % 6 === 0; // not one head's norm
    if (isHeads && !name.includes('vision')) again(0, rowLength, shape[0] / 6);
    if (/qkv_proj/.test(name))
      for (const part of [1, 2]) again((part * shape[0]) / 3, rowLength, shape[0] / 18);
    if (/query_key_value/.test(name) || (family === 'gpt_bigcode' && /c_attn/.test(name))) {
      const H = shape[0] / 18;
      for (const part of [1, 2]) again(part * H, rowLength, H, 3);
    } else if (/c_attn\.bias/.test(name))
      for (const part of [1, 2]) again((part * shape[0]) / 3, 1, shape[0] / 18);
    else if (/c_attn\.weight/.test(name)) {
      const H = shape[1] / 18;
      for (let row = 0; row < shape[0]; row++) {
        for (const part of [6, 12]) {
          for (const [head, source] of copies(family)) {
            const at = row * shape[1] + (part + source) * H;
            data.copyWithin(row * shape[1] + (part + head) * H, at, at + H);
          }
        }
      }
    }
    tensors[name] = { dtype: 'f32', shape, data };
  }
  await writeSafetensors(join(to, 'model.safetensors'), tensors);
  return to;
}

test('a model that clamps q, k and v is refused', async () => {
  const options = {
    from: multiHead('olmo'),
    to: freshPath('out'),
    numKeyValueHeads: 1,
    method: 'similar',
  } as const;
  await expect(convertCheckpoint(options)).rejects.toThrow(
    'expected method mean, first or random for a model that clamps q, k and v',
  );
});

describe.each(FAMILIES.filter((family) => family !== 'olmo'))('%s', (family) => {
  test('finds the heads that are alike, and loses nothing', async () => {
    const from = await doubled(family);
    const after = ONE.includes(family) ? 1 : 3;
    const to = freshPath('out');
    const { layers } = await convertCheckpoint({ from, to, numKeyValueHeads: after, method: 'similar' });
    for (const { groups } of layers)
      expect(groups).toEqual(
        after === 1
          ? [[0, 1, 2, 3, 4, 5]]
          : [
              [0, 5],
              [1, 3],
              [2, 4],
            ],
      );
    const tokens = (await Golden.open(`convert/${family}`)).rows('tokens')[0];
    expectClose(await logitsOf(to, tokens), await logitsOf(from, tokens), 2e-4);
  });

  test('runs down to one head, the same way each time', async () => {
    const [a, b] = ['a', 'b'].map(freshPath);
    for (const to of [a, b]) {
      await convertCheckpoint({ from: multiHead(family), to, numKeyValueHeads: 1, method: 'similar' });
    }
    expect(await contentOf(a)).toEqual(await contentOf(b));
    expect((await logitsOf(a, [3, 1, 4, 1, 5])).every(Number.isFinite)).toBe(true);
  });
});

test('a calibration text needs a tokenizer, and tokens', async () => {
  const to = freshPath('out');
  const options = { from: multiHead('llama'), to, numKeyValueHeads: 1, method: 'similar' } as const;
  await expect(convertCheckpoint({ ...options, calibration: 'text' })).rejects.toThrow(
    'expected a tokenizer for the calibration text, got none',
  );
});
