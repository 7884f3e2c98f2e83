/** The models of the page: the one that was opened, and the one made from it, which may be trained. */
import { setBackend } from 'gqa';
import { MemoryFolder, type ModelSource, openCheckpoint } from 'gqa/checkpoint';
import { type ConvertMethod, convertCheckpoint } from 'gqa/convert';
import { loadModel, type Model, type Tokenizer } from 'gqa/models';
import { type ModelShape, readModelWeights, type WeightGroup } from 'gqa/plan';
import type { TrainRecipe } from 'gqa/train';
import { checkRoom, type Room, roomFor } from './memory.ts';

export type Which = 'original' | 'converted';
export type Progress = (done: number, total: number, phase: string) => void;

/** What the page shows of an opened model. */
export interface ModelFacts {
  readonly name: string;
  readonly isGguf: boolean;
  readonly backend: string;
  readonly shape: ModelShape;
  readonly parameters: number;
  /** By kind and storage type. */
  readonly weights: readonly WeightGroup[];
  /** Tokens that a row can hold. */
  readonly context: number;
  /** The choices of K, most first; only the model's own where it cannot be converted. */
  readonly heads: readonly number[];
  /** Whether conversion and training take a second or so, so that they need not be asked for. */
  readonly isSmall: boolean;
  readonly hasChat: boolean;
  readonly room: Room;
  /** The settings of its training, where it carries them. */
  readonly recipe: TrainRecipe | undefined;
}

/** What the page shows of a converted model. */
export interface ConvertedFacts {
  readonly numKeyValueHeads: number;
  readonly method: ConvertMethod;
  /** Per layer and query head of the new model: the query head of the original that it was. */
  readonly queryHeads: readonly (readonly number[])[];
}

interface Opened {
  readonly source: ModelSource;
  readonly model: Model;
  readonly facts: ModelFacts;
  /** Tokens of a pass that takes about a tenth of a second, so that work can be stopped. */
  readonly passTokens: number;
}

interface Converted {
  readonly source: ModelSource;
  model: Model;
}

let opened: Opened | undefined;
let converted: Converted | undefined;
/** Called before the converted model changes. */
const leaving: (() => void)[] = [];

export function beforeChange(release: () => void): void {
  leaving.push(release);
}

function leaveConverted(): void {
  for (const release of leaving) release();
  converted?.model.dispose();
  converted = undefined;
}

export function theOpened(): Opened {
  if (opened === undefined) throw new Error('expected an opened model, got none');
  return opened;
}

export function theConverted(): Converted {
  if (converted === undefined) throw new Error('expected a converted model, got none');
  return converted;
}

export function modelOf(which: Which): Model {
  return which === 'original' ? theOpened().model : theConverted().model;
}

/** The opened model's, which the converted one shares. @throws Error for a model without */
export function theTokenizer(): Tokenizer {
  const { model, facts } = theOpened();
  if (model.tokenizer !== undefined) return model.tokenizer;
  throw new Error(
    `${facts.name}: expected a model with a tokenizer (tokenizer.json, or a vocabulary in GGUF), got one without`,
  );
}

/** Opens a model in place of all others. */
export async function open(source: ModelSource, name: string, onProgress: Progress): Promise<ModelFacts> {
  await setBackend('wasm');
  const { kind, shape, weights, bytes, parameters, recipe } = await headersOf(source);
  const room = roomFor(bytes, parameters);
  checkRoom(name, room);
  leaveConverted();
  opened?.model.dispose();
  opened = undefined;
  const model = await loadModel(source, { onProgress });
  const { config, tokenizer, backend } = model;
  const canConvert = config.latent === undefined && room.canConvert;
  const K = config.numKeyValueHeads;
  const all = Array.from({ length: K }, (_, i) => K - i).filter((heads) => K % heads === 0);
  const facts: ModelFacts = {
    name,
    isGguf: kind === 'gguf',
    backend: backend.description,
    shape,
    parameters,
    weights,
    context: config.maxPositionEmbeddings,
    heads: canConvert ? all : [K],
    isSmall: parameters < 2e7,
    hasChat: (tokenizer?.chatTemplates.size ?? 0) > 0,
    room,
    recipe,
  };
  opened = { source, model, facts, passTokens: await measurePass(model) };
  return facts;
}

async function headersOf(source: ModelSource) {
  await using checkpoint = await openCheckpoint(source);
  const weights = (await readModelWeights(source)) ?? [];
  const sum = (size: 'bytes' | 'parameters') => weights.reduce((total, group) => total + group[size], 0);
  const text = checkpoint.gguf?.metadata.get('gqa.train') ?? (await checkpoint.readText('gqa-train.json'));
  const recipe = typeof text === 'string' ? (JSON.parse(text) as TrainRecipe) : undefined;
  return {
    kind: checkpoint.kind,
    shape: structuredClone(checkpoint.shape),
    weights,
    bytes: sum('bytes'),
    parameters: sum('parameters'),
    recipe,
  };
}

/** How many tokens a pass of a tenth of a second has. */
async function measurePass(model: Model): Promise<number> {
  const tokens = [new Array<number>(8).fill(0)];
  const pass = () => model.forward(tokens, { logits: 'last' }).dispose();
  pass(); // memory is allocated, code is compiled
  const start = performance.now();
  pass();
  const perToken = (performance.now() - start) / 8;
  return Math.max(4, Math.min(512, Math.floor(100 / perToken)));
}

/** Converts the opened model; to its own K, or stopped, means that there is no converted one. */
export async function convert(
  numKeyValueHeads: number,
  method: ConvertMethod,
  calibration: string,
  signal: AbortSignal,
  onProgress: Progress,
): Promise<ConvertedFacts | undefined> {
  leaveConverted();
  const { source, facts } = theOpened();
  if (numKeyValueHeads === facts.shape.numKeyValueHeads) return undefined;
  const folder = new MemoryFolder('');
  const file = facts.isGguf ? 'model.gguf' : 'model';
  const result = await convertCheckpoint({
    ...{ from: source, to: { folder, file }, numKeyValueHeads, method, signal, onProgress },
    // Shorter for a large model, whose passes over it take long.
    ...(method === 'similar' && { calibration: calibration.slice(0, facts.isSmall ? 10_000 : 1500) }),
  });
  const made = facts.isGguf ? { folder, file } : folder.folder(file);
  converted = { source: made, model: await loadModel(made, { signal }) };
  return {
    numKeyValueHeads,
    method: result.method,
    queryHeads: result.layers.map(({ query }) => query.map(([{ head }]) => head)),
  };
}
