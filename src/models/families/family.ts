/** What a family file provides: how its config keys and tensor names map onto the one decoder. */
import { KeyReader } from '../../format/key-reader.ts';
import type { ModelShape } from '../../format/model-shape.ts';
import type { DecoderConfig, DecoderNames } from '../decoder-config.ts';

/** A model as the decoder takes it. */
export interface DecoderDescription {
  readonly config: DecoderConfig;
  readonly names: DecoderNames;
}

/** The values a family reads: config.json's or GGUF metadata's, the sizes already read from them, and the tensor names. */
export interface FamilySource {
  readonly keys: KeyReader;
  readonly shape: ModelShape;
  hasTensor(name: string): boolean;
}

export interface Family {
  /** `model_type` of the config.json files it reads. */
  readonly modelTypes: readonly string[];
  /** `general.architecture` of the GGUF files it reads. */
  readonly ggufArchitectures: readonly string[];
  /** @throws FormatError naming the key that is missing, wrong or not supported. */
  fromConfig(source: FamilySource): DecoderDescription;
  /** @throws FormatError naming the key that is missing, wrong or not supported. */
  fromGguf(source: FamilySource): DecoderDescription;
}

/** A positive number at `key`, or `fallback`. @throws FormatError for anything else, or when neither is there. */
export function positiveNumber(keys: KeyReader, key: string, fallback?: number): number {
  const value = keys.raw(key) ?? fallback;
  if (typeof value !== 'number' || !(value > 0) || value === Number.POSITIVE_INFINITY) {
    throw keys.fail(key, `expected a positive number, got ${value === undefined ? 'no such key' : value}`);
  }
  return value;
}

/** A size that `ModelShape` need not have. @throws FormatError when the file does not say. */
export function needSize(keys: KeyReader, key: string, value: number | undefined): number {
  if (value === undefined) throw keys.fail(key, 'expected a positive integer, got no such key');
  return value;
}

/** The keys of an object inside a config, undefined when it is absent. @throws FormatError when it is no object. */
export function nestedKeys(keys: KeyReader, key: string): KeyReader | undefined {
  const value = keys.raw(key);
  if (value === undefined) return undefined;
  if (typeof value !== 'object' || Array.isArray(value)) throw keys.fail(key, 'expected an object');
  return new KeyReader(keys.file, (name) => (value as Record<string, unknown>)[name]);
}

/** @throws FormatError unless the layers all keep every token and have one shape, as this decoder wants them. */
export function requireEqualFullLayers(keys: KeyReader, shape: ModelShape): void {
  const index = shape.layers.findIndex(
    (layer) =>
      layer.kind !== 'full' ||
      layer.numKeyValueHeads !== shape.numKeyValueHeads ||
      layer.keyHeadDim !== shape.headDim ||
      layer.valueHeadDim !== shape.headDim,
  );
  if (index < 0) return;
  const { kind, numKeyValueHeads: K, keyHeadDim: H, valueHeadDim: Hv } = shape.layers[index];
  throw keys.fail(
    `layer ${index}`,
    `expected full attention with K=${shape.numKeyValueHeads} and H=${shape.headDim} in every layer, got ${kind} with K=${K}, H=${H} and ${Hv}`,
  );
}
