/** The warning about a synchronous loop whose tensors nothing can free. Its memory is never touched. */
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { open, setBackend } from '../../src/backend/registry.ts';
import { reshape } from '../../src/ops/reshape.ts';
import { eventLoopTurn } from '../../src/tensor/event-loop.ts';
import { scope } from '../../src/tensor/scope.ts';
import { Tensor } from '../../src/tensor/tensor.ts';

const MIB = 2 ** 20;
const warning = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
const made: Tensor[] = [];
const make = (mib: number) => {
  const tensor = new Tensor(open('reference').allocate(mib * MIB), 'u8', [mib * MIB]);
  made.push(tensor);
  return tensor;
};

beforeAll(async () => {
  await setBackend('reference');
});
afterAll(() => warning.mockRestore());

test('what is freed, scoped, shared or made in several turns is no reason to warn', async () => {
  for (let i = 0; i < 9; i++) make(64).dispose();
  for (let i = 0; i < 9; i++) scope(() => void make(64));
  const shared = make(64);
  for (let i = 0; i < 9; i++) made.push(reshape(shared, [64, MIB]));
  for (let i = 0; i < 10; i++) {
    make(64);
    await eventLoopTurn();
  }
  for (const tensor of made.splice(0)) tensor.dispose();
  await eventLoopTurn();
  expect(warning).not.toHaveBeenCalled();
});

test('a loop past the limit warns once, with the numbers and what to do', () => {
  for (let i = 0; i < 8; i++) make(64);
  expect(warning).not.toHaveBeenCalled();
  for (let i = 0; i < 4; i++) make(64);
  expect(warning).toHaveBeenCalledTimes(1);
  const [text, { type }] = warning.mock.calls[0] as unknown as [string, { type: string }];
  expect(type).toBe('GqaMemoryWarning');
  expect(text).toContain('603,979,776 bytes of tensors were made outside of scope()');
  for (const advice of ['scope(() => …)', 'dispose()', 'await t.data()']) expect(text).toContain(advice);
});

test('an out-of-memory error says so too', () => {
  expect(() => open('reference').allocate(2 ** 60)).toThrow(
    /out of memory allocating \d+ bytes; [\d,]+ bytes wait for the garbage collector\. Put the work/,
  );
  for (const tensor of made.splice(0)) tensor.dispose();
  for (const bytes of [2 ** 60, 2 ** 50])
    expect(() => open('reference').allocate(bytes)).toThrow(/out of memory allocating \d+ bytes$/);
});
