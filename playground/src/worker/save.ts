/** The converted model, trained or not, as a file for a download or in a folder of the user's. */
import { downloadZip } from 'client-zip';
import { type DirectoryHandle, type Folder, MemoryFolder, type ModelSource } from 'gqa/checkpoint';
import { convertCheckpoint } from 'gqa/convert';
import { saveModel } from 'gqa/models';
import { modelOf, theConverted, theOpened } from './models.ts';
import { isTrained } from './recover.ts';

export type SaveFormat = 'gguf' | 'folder';

/** A name without an ending: that of the opened model, with the new K. */
export function baseName(): string {
  const { name, shape } = theOpened().facts;
  const { numKeyValueHeads } = modelOf('converted').config;
  const base = name.replace(/\.(gguf|safetensors)$/i, '').replace(/[^\w.-]+/g, '-');
  return `${base}-k${numKeyValueHeads || shape.numKeyValueHeads}`;
}

/** The bytes of a `.gguf` file, or of a `.zip` of a Hugging Face folder. */
export async function saveAsFile(format: SaveFormat): Promise<{ name: string; blob: Blob }> {
  const name = baseName();
  if (format === 'gguf') return { name: `${name}.gguf`, blob: new Blob([await ggufBytes()]) };
  const folder = new MemoryFolder('');
  await saveFolder(folder, name);
  const files = await filesOf(folder.folder(name), `${name}/`);
  const entries = [...files].map(([path, input]) => ({ name: path, input }));
  return { name: `${name}.zip`, blob: await downloadZip(entries).blob() };
}

/** Writes the Hugging Face folder into a folder that the user chose. @returns its name */
export async function saveInto(chosen: DirectoryHandle): Promise<string> {
  const name = baseName();
  await saveFolder(chosen, name);
  return name;
}

async function saveFolder(folder: Folder | DirectoryHandle, name: string): Promise<void> {
  // Trained weights are f32; those of a conversion keep their types.
  await saveModel({ folder, file: name }, modelOf('converted'), isTrained() ? { dtype: 'f32' } : {});
}

async function ggufBytes(): Promise<Uint8Array<ArrayBuffer>> {
  let from: ModelSource = theConverted().source;
  const made = new MemoryFolder('');
  if (isTrained()) {
    await saveFolder(made, 'trained');
    from = made.folder('trained');
  }
  const { numKeyValueHeads } = modelOf('converted').config;
  await convertCheckpoint({ from, to: { folder: made, file: 'out.gguf' }, numKeyValueHeads });
  return readAll(made, 'out.gguf');
}

async function filesOf(folder: Folder, prefix: string): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const { name, kind } of await folder.list()) {
    if (kind === 'file') files.set(prefix + name, await readAll(folder, name));
    else
      for (const [path, bytes] of await filesOf(folder.folder(name), `${prefix}${name}/`))
        files.set(path, bytes);
  }
  return files;
}

async function readAll(folder: Folder, name: string): Promise<Uint8Array<ArrayBuffer>> {
  const file = await folder.open(name);
  if (file === undefined) throw new Error(`expected ${name} to be written, got no such file`);
  return (await file.read(0, file.size)) as Uint8Array<ArrayBuffer>;
}
