/** Modules free their memory: parameters live as long as their module, and a call leaves only its result. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ReferenceBackend } from '../../src/backend/reference.ts';
import { open } from '../../src/backend/registry.ts';
import { ones, setBackend } from '../../src/index.ts';
import { MultiHeadAttention, Rngs } from '../../src/nn/index.ts';

const backend = open('reference') as ReferenceBackend;
const make = () =>
  new MultiHeadAttention({
    ...{ numHeads: 4, numKeyValueHeads: 2, inFeatures: 8, normalizeQk: true, decode: false },
    ...{ dropoutRate: 0.5, deterministic: false, rngs: new Rngs(0) },
  });

beforeAll(async () => {
  await setBackend('reference');
});
afterAll(() => setBackend('reference'));

test('a module holds its parameters, and dispose frees them', () => {
  expect(backend).toBeInstanceOf(ReferenceBackend);
  const before = backend.bytesInUse;
  const module = make();
  const size = [...module.parameters().values()].reduce((sum, { value }) => sum + value.byteLength, 0);
  // The rest is keys of 8 bytes that the garbage collector takes.
  expect(backend.bytesInUse - before - size).toBeLessThanOrEqual(64);
  module.dispose();
  expect(backend.bytesInUse - before).toBeLessThanOrEqual(64);
});

test('a call leaves its output only, decoding too', () => {
  const module = make();
  const x = ones([2, 3, 8]);
  module.forward(x).dispose();
  let before = backend.bytesInUse;
  const y = module.forward(x);
  expect(backend.bytesInUse - before).toBe(y.byteLength);
  module.setView({ decode: true, batchSize: 2, maxLength: 12 });
  before = backend.bytesInUse;
  for (let i = 0; i < 4; i++) module.forward(x).dispose();
  expect(backend.bytesInUse).toBe(before);
});
