/** The family of a checkpoint, and what it reads from the config: sizes, options and names of tensors. */
import { show } from '../arguments/kinds.ts';
import type { Backend } from '../backend/backend.ts';
import { Checkpoint } from '../checkpoint/checkpoint.ts';
import { CONFIG } from '../checkpoint/config-json.ts';
import { safetensorsCheckpoint } from '../checkpoint/safetensors-checkpoint.ts';
import { MemoryFolder } from '../files/memory-folder.ts';
import type { DecoderConfig } from './decoder-config.ts';
import { FAMILIES } from './families/families.ts';
import type { DescribedModel, Family } from './families/family.ts';
import { ROPE_TENSORS } from './families/rope-keys.ts';
import { checkTensor, readVectors } from './load-weights.ts';
import { refuseForeignWeights } from './quantized.ts';
import { asStored } from './stored-form.ts';

/** As `describeModel`, of a config.json alone. */
export function describeConfig(config: Readonly<Record<string, unknown>>): DescribedModel {
  const parts = { folder: new MemoryFolder('.'), file: CONFIG, config, tensors: new Map() };
  const checkpoint = new Checkpoint(safetensorsCheckpoint, parts, parts);
  return described(checkpoint, familyOf(checkpoint), new Map());
}

/** Finds the family and lets it read the config. @throws FormatError listing the supported ones. */
export async function describeModel(checkpoint: Checkpoint, backend: Backend): Promise<DescribedModel> {
  const family = familyOf(checkpoint);
  const own = [...checkpoint.tensors.keys()].filter((name) => family.configTensors?.test(name));
  const vectors = await readVectors(checkpoint, backend, [...ROPE_TENSORS, ...own]);
  const stated = described(checkpoint, family, vectors);
  if (checkpoint.format.names === 'gguf') return stated;
  const { config, names } = await asStored(checkpoint, stated);
  return { ...stated, config: freeze(config), names };
}

/** @throws FormatError listing the supported families */
function familyOf(checkpoint: Checkpoint): Family {
  const { format } = checkpoint;
  const isGguf = format.names === 'gguf';
  if (!isGguf) refuseForeignWeights(checkpoint);
  const keys = format.keys(checkpoint);
  const typeKey = isGguf ? 'general.architecture' : 'model_type';
  const known = (family: Family) => (isGguf ? family.ggufArchitectures : family.modelTypes);
  const type = keys.raw(typeKey);
  const family = FAMILIES.find((candidate) => known(candidate).includes(String(type)));
  if (!family) {
    const supported = FAMILIES.flatMap(known).join(', ');
    const classes = keys.raw('architectures');
    const beside = classes === undefined ? '' : ` (architectures ${JSON.stringify(classes)})`;
    throw keys.fail(
      typeKey,
      `expected a supported one (${supported}), got ${type === undefined ? 'no such key' : show(type)}${beside}`,
    );
  }
  return family;
}

function described(
  checkpoint: Checkpoint,
  family: Family,
  vectors: ReadonlyMap<string, readonly number[]>,
): DescribedModel {
  const { format, tensors } = checkpoint;
  const source = {
    keys: format.keys(checkpoint),
    shape: checkpoint.shape,
    hasTensor: (name: string) => tensors.has(name),
    floats(name: string, length: number) {
      checkTensor(checkpoint, name, [length]);
      return vectors.get(name) as readonly number[];
    },
  };
  const { config: read, names } =
    format.names === 'gguf' ? family.fromGguf(source) : family.fromConfig(source);
  return { family, config: freeze({ ...read, maxPositionEmbeddings: contextOf(read) }), names };
}

/** YaRN and dynamic scaling added by hand make the context longer than the file says. */
function contextOf({ maxPositionEmbeddings: stated, rope }: DecoderConfig): number {
  const { scaling } = rope ?? {};
  if (scaling?.type !== 'yarn' && scaling?.type !== 'dynamic') return stated;
  return Math.max(stated, Math.floor(scaling.originalMaxPositionEmbeddings * scaling.factor));
}

function freeze<T extends object>(value: T): T {
  for (const item of Object.values(value)) if (typeof item === 'object' && item !== null) freeze(item);
  return Object.freeze(value);
}
