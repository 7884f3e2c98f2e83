/** Files beside the weights that are not regular files, are too large, or are links out of the folder. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readCarriedFiles } from '../../src/checkpoint/carried-files.ts';
import { openCheckpoint } from '../../src/checkpoint/open-checkpoint.ts';
import { RunDirectory } from '../../src/checkpoint/run-directory.ts';
import { NodeFolder } from '../../src/files/node-folder.ts';
import { FormatError } from '../../src/format/format-error.ts';
import { buildSafetensors } from '../format/build-files.ts';
import { withFolder } from './temporary-folder.ts';

const WEIGHTS = buildSafetensors('{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', new Uint8Array(1));
const CHECKPOINT = { 'm/model.safetensors': WEIGHTS, 'm/config.json': '{}' };

/** What may stand in place of a file, and what an error says of it. */
const PLACEHOLDERS: [string, (path: string) => void, RegExp][] = [
  ['a pipe', (path) => execFileSync('mkfifo', [path]), /expected a regular file/],
  ['a link to a device', (path) => symlinkSync('/dev/zero', path), /expected a regular file/],
  ['a folder', (path) => mkdirSync(path), /expected a regular file/],
  [
    '300 MB',
    (path) => {
      writeFileSync(path, '');
      truncateSync(path, 300e6);
    },
    /expected at most \d+ bytes, got 300000000/,
  ],
];

describe.skipIf(process.platform === 'win32')('in place of', () => {
  for (const name of ['config.json', 'generation_config.json']) {
    test.each(PLACEHOLDERS)(`${name}: %s`, (_, put, message) =>
      withFolder(CHECKPOINT, async (folder) => {
        const path = join(folder, 'm', name);
        rmSync(path, { force: true });
        put(path);
        const error = await openCheckpoint(join(folder, 'm')).catch((thrown) => thrown);
        expect(error).toBeInstanceOf(FormatError);
        expect(error.message).toMatch(message);
        expect(error.message.startsWith(`${path}: `)).toBe(true);
      }),
    );
  }

  test.each(PLACEHOLDERS)('tokenizer.json and chat_template.jinja: %s', (_, put, message) =>
    withFolder(CHECKPOINT, async (folder) => {
      for (const name of ['tokenizer.json', 'chat_template.jinja']) put(join(folder, 'm', name));
      await using checkpoint = await openCheckpoint(join(folder, 'm'));
      for (const name of ['tokenizer.json', 'chat_template.jinja']) {
        await expect(checkpoint.readText(name)).rejects.toThrow(message);
      }
    }),
  );

  test.each(PLACEHOLDERS.filter(([what]) => what !== 'a folder'))(
    'LICENSE, when it is carried: %s',
    (_, put) =>
      withFolder(CHECKPOINT, async (folder) => {
        put(join(folder, 'm', 'LICENSE'));
        await expect(readCarriedFiles(new NodeFolder(join(folder, 'm')))).rejects.toThrow(FormatError);
      }),
  );
});

test('links are carried within a folder and from the blobs of a hub cache, not from elsewhere', () =>
  withFolder(
    {
      secret: 'mine',
      'm/LICENSE-2.0': 'free',
      'hub/blobs/abc': 'blob',
      'hub/snapshots/1/config.json': '{}',
    },
    async (folder) => {
      symlinkSync('LICENSE-2.0', join(folder, 'm', 'LICENSE'));
      symlinkSync('../../blobs/abc', join(folder, 'hub', 'snapshots', '1', 'tokenizer.json'));
      const own = new NodeFolder(join(folder, 'm'));
      expect([...(await readCarriedFiles(own)).keys()]).toEqual(['LICENSE', 'LICENSE-2.0']);
      const cached = await readCarriedFiles(new NodeFolder(join(folder, 'hub', 'snapshots', '1')));
      expect(new TextDecoder().decode(cached.get('tokenizer.json'))).toBe('blob');
      symlinkSync('../secret', join(folder, 'm', 'NOTICE'));
      await expect(readCarriedFiles(own)).rejects.toThrow(
        /NOTICE: expected a file of the checkpoint, got a link to .*secret; put a copy in its place/,
      );
    },
  ));

test('what a killed writer left is removed by the next one to the same place, and only that', () =>
  withFolder({}, async (folder) => {
    // The name that a writer of this machine gives now, with the id of a process that is gone.
    let name = '';
    const inside = new NodeFolder(folder);
    await inside.replace('out', async (temporary) => {
      name = temporary.path;
    });
    const left = (place: string) => name.replace(`.out.${process.pid}-`, `.${place}.999999999-`);
    for (const place of ['a.gguf', 'b.gguf']) writeFileSync(left(place), 'half');
    mkdirSync(left('out'));
    await inside.write('a.gguf', 'whole');
    await inside.replace('out', async () => {}, { overwrite: true });
    expect(
      readdirSync(folder)
        .map((entry) => entry.split('.999')[0])
        .sort(),
    ).toEqual(['.b.gguf', 'a.gguf', 'out']);
  }));

test('of two writers into one folder the second is told', () =>
  withFolder({}, async (folder) => {
    const out = join(folder, 'out');
    const inside = new NodeFolder(folder);
    const write = inside.replace('out', async () => {
      await inside.replace('out', (temporary) => temporary.write('x', '1'));
    });
    await expect(write).rejects.toThrow(
      `${out}: expected nothing there, got a folder that was written there meanwhile`,
    );
    expect(readdirSync(folder)).toEqual(['out']);
  }));

test('trainer.json must be of its checkpoint', () =>
  withFolder({ latest: 'step-20\n', 'step-20/trainer.json': '{}' }, async (folder) => {
    const run = new RunDirectory(new NodeFolder(folder));
    const latest = (await run.latest())!;
    for (const [state, got] of [
      ['null', 'nothing'],
      ['[]', 'nothing'],
      ['{"step":1e9}', '1000000000'],
      ['{"step":-5}', '-5'],
    ]) {
      await latest.write('trainer.json', state);
      await expect(run.state(latest)).rejects.toThrow(`expected an object with step 20, got ${got}`);
    }
    await latest.write('trainer.json', '{"step":20}');
    expect((await run.state(latest)).step).toBe(20);
  }));
