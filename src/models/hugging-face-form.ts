import { configWithTying } from '../checkpoint/config-json.ts';
import { cast } from '../ops/cast.ts';
import { reshape } from '../ops/reshape.ts';
import { transpose } from '../ops/transpose.ts';
import { isBlockDType } from '../tensor/dtype.ts';
import { scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { DecoderConfig, DecoderNames } from './decoder-config.ts';
import { weightPlaces } from './decoder-weights.ts';
import { describeConfig } from './describe-model.ts';
import { FAMILIES } from './families/families.ts';
import type { ModelParts } from './model.ts';
import type { PlacedWeight } from './stored-weight.ts';

/** What a Hugging Face folder says of a model. */
export interface HuggingFaceForm {
  readonly config: Readonly<Record<string, unknown>>;
  readonly weights: readonly PlacedWeight[];
}

/** @throws Error for a model from a GGUF file that Hugging Face's files cannot describe, with the reason */
export function huggingFaceForm(parts: Omit<ModelParts, 'makeTokenizer'>): HuggingFaceForm {
  const { config, origin } = parts;
  // A tied table is one tensor with two places.
  const tensors = [...new Set(parts.tensors)];
  if (origin.configJson !== undefined) {
    const places = weightPlaces(config, origin.names);
    return {
      config: configWithTying(origin.configJson, config),
      weights: places.map((place, i) => ({ place, tensor: tensors[i] })),
    };
  }
  const written = writtenConfig(config);
  const { config: read, names } = describeConfig(written);
  const different = firstDifference(comparable(config), comparable(read));
  if (different !== undefined) throw cannotSave(config, `its ${different}`);
  const turned = config.rope?.interleaved === true ? rotatedNames(config, names) : new Map<string, number>();
  const weights = weightPlaces(config, names).map((place, i) => {
    const heads = turned.get(place.name);
    const tensor = tensors[i];
    return { place, tensor, ...(heads && { made: () => pairsApart(tensor, heads) }) };
  });
  return { config: written, weights };
}

function writtenConfig(config: DecoderConfig): Readonly<Record<string, unknown>> {
  const family = FAMILIES.find(({ ggufArchitectures }) => ggufArchitectures.includes(config.modelType));
  if (family?.toConfig !== undefined) return family.toConfig(config);
  const able = FAMILIES.filter(({ toConfig }) => toConfig !== undefined);
  const known = able.flatMap(({ ggufArchitectures }) => ggufArchitectures).join(', ');
  throw cannotSave(config, `its architecture; of GGUF files, ${known} can be saved`);
}

function cannotSave({ modelType }: DecoderConfig, what: string): Error {
  return new Error(
    `saveModel: expected a model that config.json can describe, got ${modelType} from a GGUF file with ${what}`,
  );
}

/** What must be equal in a model and in what its written config says. */
function comparable({ modelType: _, rope, ...rest }: DecoderConfig): object {
  return { ...rest, rope: rope && { ...rope, interleaved: false } };
}

/** The path of the first value that differs, such as `rope.divisors`. */
function firstDifference(a: unknown, b: unknown, path: readonly string[] = []): string | undefined {
  if (Object.is(a, b)) return undefined;
  const bothObjects = [a, b].every((value) => typeof value === 'object' && value !== null);
  if (!bothObjects) return path.join('.');
  const [one, other] = [a, b] as Record<string, unknown>[];
  for (const key of new Set([...Object.keys(one), ...Object.keys(other)])) {
    const found = firstDifference(one[key], other[key], [...path, key]);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The names of queries and keys, with their number of heads. */
function rotatedNames(config: DecoderConfig, names: DecoderNames): ReadonlyMap<string, number> {
  const found = new Map<string, number>();
  for (let i = 0; i < config.numLayers; i++) {
    const {
      queryKeyValue: [query, key],
    } = names.layer(i);
    for (const kind of ['weight', 'bias']) {
      found.set(`${query}.${kind}`, config.numHeads).set(`${key}.${kind}`, config.numKeyValueHeads);
    }
  }
  return found;
}

/** Rows (2i, 2i + 1) of each head, which GGUF rotates, put at (i, i + H/2), which Hugging Face rotates. */
function pairsApart(tensor: Tensor, heads: number): Tensor {
  return scope(() => {
    const [rows, ...rest] = tensor.shape;
    const plain = isBlockDType(tensor.dtype) ? cast(tensor, 'f32') : tensor;
    const paired = reshape(plain, [heads, rows / heads / 2, 2, ...rest]);
    const apart = transpose(paired, [0, 2, 1, ...rest.map((_, i) => 3 + i)]);
    return reshape(apart, tensor.shape);
  });
}
