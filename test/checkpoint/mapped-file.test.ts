/**
 * A checkpoint that is truncated while the native backend has it mapped: the process ends with the reason.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { buildSafetensors } from '../format/build-files.ts';
import { withFolder } from './temporary-folder.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const canRun = process.platform === 'linux' && existsSync(`${root}build/gqa.node`);

const program = `
  import { truncateSync } from 'node:fs';
  import { loadTensor, openCheckpoint } from '${root}dist/checkpoint/index.js';
  const tensor = loadTensor(await openCheckpoint(process.argv[1]), 'a');
  truncateSync(process.argv[1], 4096);
  await tensor.data();
`;

test.runIf(canRun)('a mapped file that is cut short is named as the reason', () => {
  const bytes = 1 << 20;
  const json = JSON.stringify({ a: { dtype: 'F32', shape: [bytes / 4], data_offsets: [0, bytes] } });
  // The data begins at byte 128: what is not aligned is copied.
  const header = json.padEnd(120);
  return withFolder({ 'a.safetensors': buildSafetensors(header, new Uint8Array(bytes)) }, async (folder) => {
    const args = ['--input-type=module', '-e', program, `${folder}/a.safetensors`];
    const { signal, stderr } = spawnSync(process.execPath, args, {
      encoding: 'utf8',
      env: { ...process.env, GQA_BACKEND: 'native' },
    });
    expect(stderr).toBe(
      'gqa: a file in use was cut short (replace a checkpoint by renaming, not by writing into it)\n',
    );
    expect(signal).toBe('SIGBUS');
  });
});
