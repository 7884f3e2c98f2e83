/** The headers of a checkpoint's files, one or several. */
import { type FileSource, type Folder, withFile } from '../files/folder.ts';
import { FormatError } from '../format/format-error.ts';
import type { TensorInfo } from '../format/tensor-info.ts';
import type { CheckpointTensor } from './checkpoint.ts';
import { nameList, refusePointer } from './other-folders.ts';

/** Files opened at the same time. */
const CONCURRENCY = 8;

/** A file's header. The file is closed; a later read opens it again. */
export interface ReadHeader<Header> {
  readonly header: Header;
  readonly source: FileSource;
}

/** Reads the headers of `files`, in their order. @throws FormatError for a file that is damaged or missing */
export async function readHeaders<Header>(
  folder: Folder,
  files: readonly string[],
  read: (source: FileSource) => Promise<Header>,
): Promise<ReadHeader<Header>[]> {
  const headers: ReadHeader<Header>[] = [];
  for (let i = 0; i < files.length; i += CONCURRENCY) {
    const batch = files.slice(i, i + CONCURRENCY).map((file) =>
      withFile(folder, file, async (source) => {
        await refusePointer(source);
        return { header: await read(source), source };
      }),
    );
    headers.push(...(await Promise.all(batch)));
  }
  return headers;
}

/** @throws FormatError about `file` unless the `count` files that it belongs to, or lists, lie beside it */
export async function checkPresent(
  folder: Folder,
  file: string,
  names: readonly string[],
  count: string,
): Promise<void> {
  const present = new Set((await folder.list()).map(({ name }) => name));
  const missing: string[] = [];
  // An address lists only the names that all models have.
  for (const name of names.filter((one) => !present.has(one))) {
    const file = await folder.open(name);
    await file?.close();
    if (file === undefined) missing.push(name);
  }
  if (missing.length === 0) return;
  const what = `expected its ${count} next to it, got no ${nameList(missing)}; fetch the missing files`;
  throw new FormatError(folder.nameOf(file), undefined, what);
}

/** The tensors of all headers, by name. */
export function tensorsOf(
  headers: readonly ReadHeader<{ readonly tensors: ReadonlyMap<string, TensorInfo> }>[],
): Map<string, CheckpointTensor> {
  const tensors = new Map<string, CheckpointTensor>();
  for (const { header, source } of headers) {
    for (const [name, info] of header.tensors) tensors.set(name, { ...info, path: source.name });
  }
  return tensors;
}
