/**
 * Models whose attention facts are known without a file, by id: `llama-3-8b`, `gemma-3-27b`, `deepseek-v3` and others.
 * For a T5 the decoder's self-attention is meant; its cross-attention holds as much again per encoder token.
 */
import { show } from '../arguments/kinds.ts';
import { freezeShape, type LayerShape, type ModelShape } from '../format/shape-types.ts';
import { PRESET_TABLE } from './presets.generated.ts';

/** A model whose shape is known by id. */
export interface Preset {
  /** Such as `llama-3-8b`. */
  readonly id: string;
  /** The model's own name. */
  readonly name: string;
  /** What `planKvCache` needs of it. */
  readonly shape: ModelShape;
  /** False when no config file or official repository states the facts. */
  readonly verified: boolean;
}

let presets: ReadonlyMap<string, Preset> | undefined;

/** Every preset, in order of families. */
export function listPresets(): readonly Preset[] {
  return [...all().values()];
}

/**
 * The preset of that id; case does not count.
 * @throws RangeError for an unknown id, with near ones
 */
export function preset(id: string): Preset {
  checkId('preset', id);
  const found = all().get(id.toLowerCase());
  if (found !== undefined) return found;
  const near = nearPresets(id);
  const hint = near.length > 0 ? `; near: ${near.join(', ')}` : '';
  throw new RangeError(`expected the id of a preset, got ${show(id)}${hint}`);
}

function checkId(op: string, id: string): void {
  if (typeof id !== 'string') throw new TypeError(`${op}: expected an id, got ${String(id)}`);
}

/** At most five ids that look like `id`: they contain its letters and digits, or differ by few edits. */
export function nearPresets(id: string): readonly string[] {
  checkId('nearPresets', id);
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
    PRESET_TABLE.trim()
      .split('\n')
      .map(presetOf)
      .map((one) => [one.id, one]),
  );
  return presets;
}

function presetOf(line: string): Preset {
  const [id, name, modelType, layerCount, heads, dims, hidden, width, vocab, context, tied, rule, flag] =
    line.split('|');
  const [numHeads, numKeyValueHeads] = heads.split('/').map(Number);
  const [keyHeadDim, valueHeadDim = keyHeadDim] = dims.split('/').map(Number);
  const [, kind, size, rope, every] = rule.match(/^(\w+) (?:(\d+)(?:\+(\d+))? ?)?(?:every (\d+))?$/) ?? [];
  const base = { numKeyValueHeads, keyHeadDim, valueHeadDim };
  const layers = Array.from({ length: Number(layerCount) }, (_, i): LayerShape => {
    // Layers slide (or are linear) except the last of each period; period 0 has no such layer.
    const full = kind === undefined || (kind !== 'latent' && (i + 1) % Number(every) === 0);
    if (full) return { kind: 'full', ...base };
    if (kind === 'linear') return { kind, numKeyValueHeads: 0, keyHeadDim: 0, valueHeadDim: 0 };
    if (kind === 'latent') return { kind, ...base, latent: { rank: Number(size), ropeDim: Number(rope) } };
    return { kind: 'sliding', ...base, window: Number(size) };
  });
  const shape: ModelShape = {
    modelType,
    numLayers: layers.length,
    numHeads,
    numKeyValueHeads,
    headDim: keyHeadDim,
    valueHeadDim,
    hiddenSize: Number(hidden),
    intermediateSize: Number(width),
    vocabSize: Number(vocab),
    maxPositionEmbeddings: Number(context),
    tiedEmbeddings: tied === 'tied',
    layers,
  };
  const keys = { heads: 'num_attention_heads', keyValueHeads: 'num_key_value_heads' };
  return { id, name, shape: freezeShape(id, shape, keys), verified: flag !== 'unverified' };
}

/** Levenshtein's distance. */
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
