/** Reads the shape of a model from its files (`readModelShape`). */
import { type FileSource, type Folder, withFile } from '../files/folder.ts';
import { checkSource, findSource, type ModelSource, sourceName } from '../files/source.ts';
import type { FetchModelOptions } from '../files/source-options.ts';
import type { ByteSource } from '../format/byte-source.ts';
import { FormatError } from '../format/format-error.ts';
import { type GgufHeader, readGgufHeader } from '../format/gguf.ts';
import { ggufModels, partCount } from '../format/gguf-split.ts';
import { type ModelShape, modelShapeFromConfig, modelShapeFromGguf } from '../format/model-shape.ts';
import { parseJson } from '../format/parse-json.ts';
import { readSafetensorsHeader } from '../format/safetensors.ts';

/** Where a model is read from (see `ModelSource` of gqa/checkpoint), or random-access bytes. */
export type ShapeSource = ModelSource | ByteSource;

/** A larger file is not a config.json. */
const MAX_CONFIG_BYTES = 1 << 24;

/** GGUF headers by the name of their file. */
export type GgufHeaders = Map<string, GgufHeader>;

/** @param headers gets that of a GGUF file, so that `readWeights` does not read it again */
export async function readShape(
  source: ShapeSource,
  options: FetchModelOptions,
  headers: GgufHeaders,
): Promise<ModelShape> {
  if (typeof (source as Partial<ByteSource> | undefined)?.read === 'function') {
    return fromBytes(source as ByteSource, headers);
  }
  checkSource('readModelShape', 'a path, a URL, a Blob or a byte source', source as ModelSource);
  const place = await findSource('readModelShape', source as ModelSource, options);
  if (place === undefined) {
    const name = sourceName(source as ModelSource);
    throw new Error(`${name}: expected a config.json, .gguf or .safetensors file, got nothing there`);
  }
  const { folder, file } = place;
  return withFile(folder, file ?? (await describingFile(folder)), async (opened) => {
    let config: FileSource | undefined;
    try {
      return await fromBytes(opened, headers, async () => {
        config = await folder.open('config.json');
        return config;
      });
    } finally {
      await config?.close();
    }
  });
}

/** The file of a folder that states its model's shape. */
async function describingFile(folder: Folder): Promise<string> {
  const config = await folder.open('config.json');
  await config?.close();
  if (config !== undefined) return 'config.json';
  const names = (await folder.list()).map(({ name }) => name);
  const models = ggufModels(names);
  if (models.length !== 1) {
    throw new Error(
      `${folder.name}: expected config.json or one .gguf file in it, got ${models.length} .gguf files`,
    );
  }
  const [name] = models;
  if (names.includes(name)) return name;
  throw new Error(`${folder.name}: expected the first part ${name}, got later ones`);
}

/** @param openConfig the config.json beside a safetensors file; undefined when there is none */
async function fromBytes(
  source: ByteSource,
  headers: GgufHeaders,
  openConfig?: () => Promise<ByteSource | undefined>,
): Promise<ModelShape> {
  const start = await source.read(0, Math.min(source.size, 16));
  if (String.fromCharCode(...start.subarray(0, 4)) === 'GGUF') {
    const header = await readGgufHeader(source);
    headers.set(source.name, header);
    partCount(header); // all that a shape needs is in the first part
    return modelShapeFromGguf(header);
  }
  // A safetensors file begins with 8 bytes of length and then `{`; a config.json with `{`.
  if (start[8] === 0x7b && start[7] === 0) {
    await readSafetensorsHeader(source);
    const config = await openConfig?.();
    if (config === undefined) {
      throw new Error(
        `${source.name}: expected config.json beside a safetensors file, whose header has no head counts, got none`,
      );
    }
    return fromConfig(config);
  }
  if (start.find((byte) => byte > 0x20) === 0x7b) return fromConfig(source);
  throw new FormatError(
    source.name,
    0,
    `expected a config.json, a GGUF or a safetensors file, got ${start.length === 0 ? 'an empty file' : `bytes ${[...start.subarray(0, 8)].join(' ')}`}`,
  );
}

async function fromConfig(source: ByteSource): Promise<ModelShape> {
  if (source.size > MAX_CONFIG_BYTES) {
    throw new FormatError(source.name, undefined, `expected a config.json, got ${source.size} bytes of JSON`);
  }
  return modelShapeFromConfig(parseJson(source.name, await source.read(0, source.size)), source.name);
}
