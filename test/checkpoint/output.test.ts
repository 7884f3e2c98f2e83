/** Output paths, disk space, and output folders that are complete or absent. */
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readCarriedFiles } from '../../src/checkpoint/carried-files.ts';
import { writeBeside } from '../../src/checkpoint/hugging-face.ts';
import { checkOutputPlace, checkSpace } from '../../src/checkpoint/output.ts';
import type { Folder } from '../../src/files/folder.ts';
import { NodeFolder, splitPath } from '../../src/files/node-folder.ts';
import { withFolder } from './temporary-folder.ts';

test('no space is told with both numbers, before a byte is written', () =>
  withFolder({}, async (folder) => {
    await checkSpace(splitPath(join(folder, 'a', 'b', 'out')), 1);
    await expect(checkSpace(splitPath(join(folder, 'a', 'out')), 2 ** 50)).rejects.toThrow(
      /out: expected 1125899906842624 bytes of free space, got \d+; free some or choose another disk/,
    );
    expect(readdirSync(folder)).toEqual([]);
  }));

test('a folder is replaced whole, and stays as it was when its writer fails', () =>
  withFolder({}, async (folder) => {
    const path = join(folder, 'out');
    const inside = new NodeFolder(folder);
    const write = (text: string) => (at: Folder) => at.write('file', text);
    await inside.replace('out', write('one'));
    await expect(inside.replace('out', write('two'))).rejects.toThrow();
    await inside.replace('out', write('three'), { overwrite: true });
    const fail = async (at: Folder) => {
      await write('four')(at);
      throw new Error('no more');
    };
    await expect(inside.replace('out', fail, { overwrite: true })).rejects.toThrow('no more');
    expect(readFileSync(join(path, 'file'), 'utf8')).toBe('three');
    expect(readdirSync(folder)).toEqual(['out']);
  }));

test('links do not hide that the output is the input', () =>
  withFolder({ 'in/config.json': '{}' }, async (folder) => {
    symlinkSync(join(folder, 'in'), join(folder, 'link'));
    const from = { folder: new NodeFolder(join(folder, 'in')) };
    await expect(checkOutputPlace(from, splitPath(join(folder, 'link', 'out')), true)).rejects.toThrow(
      'expected a place outside of the checkpoint',
    );
  }));

test('only what a converter made is replaced', () =>
  withFolder(
    { 'in/x': '', 'f.txt': 'mine', 'g.gguf': 'x', 'd/config.json': '{}', 'd/model.safetensors': '' },
    async (folder) => {
      const from = { folder: new NodeFolder(join(folder, 'in')) };
      const check = (name: string) => checkOutputPlace(from, splitPath(join(folder, name)), true);
      await check('g.gguf');
      await check('d');
      await expect(check('f.txt')).rejects.toThrow(
        'expected a checkpoint or an empty folder to replace, got a file',
      );
      mkdirSync(join(folder, 'd', 'work'));
      await expect(check('d')).rejects.toThrow('got a folder of something else');
      mkdirSync(join(folder, 'empty.gguf'));
      await expect(check('empty.gguf')).rejects.toThrow('got a folder of something else');
    },
  ));

test('carried files', () =>
  withFolder(
    {
      'in/tokenizer.json': '1',
      'in/merges.txt': '2',
      'in/config.json': '3',
      'in/model.bin': '4',
      'in/NOTICE': '5',
      'in/additional_chat_templates/tool_use.jinja': '7',
      'in/additional_chat_templates/notes.md': '8',
    },
    async (folder) => {
      mkdirSync(join(folder, 'out'));
      writeFileSync(join(folder, 'in', 'tokenizer.model'), '6');
      const carried = await readCarriedFiles(new NodeFolder(join(folder, 'in')));
      const contents = { config: {}, files: carried, tensors: new Map() };
      const names = await writeBeside(new NodeFolder(join(folder, 'out')), contents);
      const template = 'additional_chat_templates/tool_use.jinja';
      const files = ['NOTICE', 'config.json', 'merges.txt', 'tokenizer.json', 'tokenizer.model'];
      expect([...names].sort()).toEqual([...files, template].sort());
      expect(readdirSync(join(folder, 'out')).sort()).toEqual([...files, 'additional_chat_templates'].sort());
      expect(readFileSync(join(folder, 'out', template), 'utf8')).toBe('7');
    },
  ));
