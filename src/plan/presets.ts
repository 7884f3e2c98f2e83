/**
 * Shapes of well-known models by id: `llama-3-8b`, `gemma-3-27b`, `deepseek-v3` and others. That of a T5 has
 * the decoder's self-attention; its cross-attention caches as many bytes again per token of the encoder.
 */
import { show } from '../arguments/kinds.ts';
import { modelShapeFromConfig } from '../format/shape-from-config.ts';
import { type ExpertsShape, freezeShape, type LayerShape, type ModelShape } from '../format/shape-types.ts';
import { PRESET_CONFIGS, PRESET_TABLE } from './presets.generated.ts';

/** A model whose shape is known by id. */
export interface Preset {
  /** Such as `llama-3-8b`. */
  readonly id: string;
  /** The model's own name. */
  readonly name: string;
  /** Its sizes, for `planKvCache`. */
  readonly shape: ModelShape;
  /** False when no config file or official repository states the sizes. */
  readonly verified: boolean;
}

let presets: ReadonlyMap<string, Preset> | undefined;

/** All presets, ordered by family. */
export function listPresets(): readonly Preset[] {
  return [...all().values()];
}

/**
 * The preset with an id; upper and lower case are the same.
 * @throws RangeError for an unknown id; the message names similar ones
 */
export function preset(id: string): Preset {
  if (typeof id !== 'string') throw new TypeError(`preset: expected an id, got ${String(id)}`);
  const found = all().get(id.toLowerCase());
  if (found !== undefined) return found;
  const near = nearPresets(id);
  const hint = near.length > 0 ? `; near: ${near.join(', ')}` : '';
  throw new RangeError(`preset: expected the id of a preset, got ${show(id)}${hint}`);
}

/** At most five ids similar to `id`: one contains the other's letters and digits, or few edits lead to it. */
export function nearPresets(id: string): readonly string[] {
  const plain = (text: string) => text.toLowerCase().replace(/[^a-z0-9]/g, '');
  const wanted = plain(id.slice(id.lastIndexOf('/') + 1));
  const scored: [id: string, edits: number][] = [];
  for (const candidate of all().keys()) {
    const known = plain(candidate);
    const inside = wanted.length > 2 && (known.includes(wanted) || wanted.includes(known));
    const edits = inside ? Math.abs(known.length - wanted.length) / 10 : distance(known, wanted);
    if (inside || edits <= Math.max(2, wanted.length / 4)) scored.push([candidate, edits]);
  }
  return scored
    .sort((a, b) => a[1] - b[1])
    .slice(0, 5)
    .map(([candidate]) => candidate);
}

function all(): ReadonlyMap<string, Preset> {
  presets ??= new Map(
    [...lines(PRESET_TABLE).map(presetOf), ...lines(PRESET_CONFIGS).map(configPreset)].map((one) => [
      one.id,
      one,
    ]),
  );
  return presets;
}

function lines(table: string): string[] {
  return table.trim().split('\n');
}

function configPreset(line: string): Preset {
  const [id, name, flag, config] = line.split('|');
  return { id, name, shape: modelShapeFromConfig(JSON.parse(config), id), verified: flag !== 'unverified' };
}

function presetOf(line: string): Preset {
  const [id, name, modelType, layerCount, heads, dims, hidden, width, vocab, context, tied, rule, mlp, flag] =
    line.split('|');
  const [numHeads, numKeyValueHeads] = heads.split('/').map(Number);
  const [keyHeadDim, valueHeadDim = keyHeadDim] = dims.split('/').map(Number);
  const [, kind, size, rope, every, query] =
    rule.match(/^(\w+) (?:(\d+)(?:\+(\d+))? ?)?(?:every (\d+))?(?:query (\d+))?$/) ?? [];
  const base = { numKeyValueHeads, keyHeadDim, valueHeadDim };
  const layers = Array.from({ length: Number(layerCount) }, (_, i): LayerShape => {
    // The last layer of each period is full, the others slide or are linear; with period 0 none is full.
    const full = kind === undefined || (kind !== 'latent' && (i + 1) % Number(every) === 0);
    if (full) return { kind: 'full', ...base };
    if (kind === 'linear') return { kind, numKeyValueHeads: 0, keyHeadDim: 0, valueHeadDim: 0 };
    if (kind === 'latent') {
      const queryRank = query === undefined ? undefined : Number(query);
      const latent = { rank: Number(size), ropeDim: Number(rope), ...(queryRank && { queryRank }) };
      return { kind, ...base, latent };
    }
    return { kind: kind === 'chunked' ? 'chunked' : 'sliding', ...base, window: Number(size) };
  });
  const shape = {
    modelType,
    numHeads,
    hiddenSize: Number(hidden),
    intermediateSize: Number(width),
    gatedMlp: mlp !== 'plain',
    ...(mlp.includes('/') && { experts: expertsOf(mlp) }),
    vocabSize: Number(vocab),
    maxPositionEmbeddings: Number(context),
    tiedEmbeddings: tied === 'tied',
    layers,
  };
  const keys = { heads: 'num_attention_heads', keyValueHeads: 'num_key_value_heads' };
  return { id, name, shape: freezeShape(id, shape, keys), verified: flag !== 'unverified' };
}

function expertsOf(text: string): ExpertsShape {
  const [numExperts, expertsPerToken, intermediateSize, sharedIntermediateSize, numLayers] = text
    .split('/')
    .map(Number);
  return { numExperts, expertsPerToken, intermediateSize, sharedIntermediateSize, numLayers };
}

/** The Levenshtein distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(next[j - 1] + 1, row[j] + 1, swap));
    }
    row = next;
  }
  return row[b.length];
}
