/** Progress where stderr is no terminal: plain lines with the time left. */
import { afterEach, expect, test, vi } from 'vitest';
import { startProgress } from '../../src/cli/progress.ts';

afterEach(() => vi.restoreAllMocks());

test('prints a new label with the time left, at most every ten seconds', () => {
  const lines: string[] = [];
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => lines.push(String(text)) > 0);
  const now = vi.spyOn(performance, 'now').mockReturnValue(0);
  const progress = startProgress('converting', 'converting a to K=1');
  const at = (seconds: number, done: number, label: string) => {
    now.mockReturnValue(1000 * seconds);
    progress.update(done, 100, label);
  };
  at(1, 10, 'training layer 1 of 10');
  at(6, 15, 'training layer 2 of 10');
  at(11, 20, 'training layer 2 of 10');
  at(12, 21, 'training layer 3 of 10');
  at(30, 40, 'training layer 4 of 10');
  progress.stop();
  expect(lines).toEqual([
    'converting a to K=1\n',
    'training layer 2 of 10, 80 s left\n',
    'training layer 4 of 10, 58 s left\n',
  ]);
});
