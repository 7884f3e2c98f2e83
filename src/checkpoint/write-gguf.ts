/** Writes a GGUF file, streaming and atomically, as `writeSafetensors` does for safetensors. */
import { encodeGgufHeader, type GgufEntry, type GgufPair } from '../format/encode-gguf.ts';
import { append, writeAtomically } from './write-atomically.ts';
import type { ByteChunks, TensorBytes } from './write-safetensors.ts';

export type { GgufPair } from '../format/encode-gguf.ts';

/**
 * Writes `tensors` to `path`, atomically.
 * @param metadata in file order, each value with its stored type (`u32`, `string`, `[f32]`)
 * @param tensors by name, in file order; shapes row-major, as everywhere
 * @throws TypeError for a type GGUF does not have, RangeError when data and shape disagree in size
 * Source: ggml/docs/gguf.md.
 */
export async function writeGguf(
  path: string,
  metadata: ReadonlyMap<string, GgufPair>,
  tensors: ReadonlyMap<string, TensorBytes>,
): Promise<void> {
  const entries: GgufEntry[] = [...tensors].map(([name, { dtype, shape }]) => ({ name, dtype, shape }));
  const header = encodeGgufHeader(metadata, entries);
  await writeAtomically(path, async (file) => {
    await append(file, header.bytes);
    for (const { name, byteLength } of header.tensors) {
      let written = 0;
      for await (const chunk of chunksOf(tensors.get(name)!)) {
        written += chunk.byteLength;
        if (written > byteLength) throw sizeError(name, byteLength, written);
        await append(file, chunk);
      }
      if (written !== byteLength) throw sizeError(name, byteLength, written);
      const padding = (header.alignment - (byteLength % header.alignment)) % header.alignment;
      if (padding > 0) await append(file, new Uint8Array(padding));
    }
  });
}

function chunksOf({ data }: TensorBytes): ByteChunks {
  if (typeof data === 'function') return data();
  return [new Uint8Array(data.buffer, data.byteOffset, data.byteLength)];
}

function sizeError(name: string, expected: number, got: number): RangeError {
  return new RangeError(`writeGguf: ${name}: expected ${expected} bytes for its shape, got ${got}`);
}
