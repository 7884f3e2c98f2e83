/** A checkpoint's decoder, opened to be looked into: its weights and one pass over token rows, layer by layer. */
import type { Backend } from '../backend/backend.ts';
import { getBackend } from '../backend/registry.ts';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { openCheckpoint } from '../checkpoint/open-checkpoint.ts';
import {
  type DecoderPass,
  decoderLayer,
  embed,
  normalize,
  outputHead,
  type SeenAttention,
} from '../models/decoder.ts';
import type { DecoderConfig } from '../models/decoder-config.ts';
import type { DecoderWeights } from '../models/decoder-weights.ts';
import type { DecoderDescription } from '../models/families/family.ts';
import { describeModel } from '../models/load-model.ts';
import { loadWeights } from '../models/load-weights.ts';
import { type RopeTable, type RopeTables, ropeTables } from '../models/rope-table.ts';
import { tokenizerMaker } from '../models/text-parts.ts';
import { allocate } from '../ops/operands.ts';
import { encode } from '../tensor/encode.ts';
import { scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Tokenizer } from '../text/tokenizer.ts';

export class OpenedDecoder {
  readonly config: DecoderConfig;
  readonly tokenizer: Tokenizer | undefined;
  readonly #backend: Backend;
  readonly #weights: DecoderWeights;
  readonly #tensors: readonly Tensor[];
  readonly #ropeTables: RopeTables;

  private constructor(
    backend: Backend,
    config: DecoderConfig,
    weights: DecoderWeights,
    tensors: readonly Tensor[],
    tokenizer: Tokenizer | undefined,
  ) {
    this.#backend = backend;
    this.config = config;
    this.#weights = weights;
    this.#tensors = tensors;
    this.tokenizer = tokenizer;
    this.#ropeTables = ropeTables(config);
  }

  static async open(path: string): Promise<OpenedDecoder> {
    await using checkpoint = await openCheckpoint(path);
    return await OpenedDecoder.of(checkpoint, describeModel(checkpoint, getBackend()));
  }

  static async of(checkpoint: Checkpoint, { config, names }: DecoderDescription): Promise<OpenedDecoder> {
    const backend = getBackend();
    const loaded: Tensor[] = [];
    try {
      const weights = await loadWeights(checkpoint, config, names, { backend, loaded });
      const makeTokenizer = await tokenizerMaker(checkpoint);
      return new OpenedDecoder(backend, config, weights, loaded, makeTokenizer?.());
    } catch (error) {
      for (const tensor of loaded) tensor.dispose();
      throw error;
    }
  }

  /** What a pass over rows of one length needs; free it with `freePass`. */
  pass(rows: readonly (readonly number[])[]): DecoderPass {
    const [B, T] = [rows.length, rows[0].length];
    const upload = (dtype: 'i32' | 'f32', values: ArrayLike<number>, shape: number[]) => {
      const out = allocate(this.#backend, dtype, shape);
      this.#backend.write(out.storage, encode(dtype, values));
      return out;
    };
    const ids = upload('i32', rows.flat(), [B, T]);
    const lengths = rows.map(() => T);
    const { ropeTable, windowRopeTable } = this.#ropeTables;
    if (ropeTable === undefined) {
      const numbers = Array.from({ length: B * T }, (_, i) => i % T);
      return { ids, lengths, positions: upload('i32', numbers, [B, T]) };
    }
    const starts = rows.map(() => 0);
    const rotation = (table: RopeTable) => {
      const { cos, sin } = table.rows(starts, T);
      const shape = [B, T, table.half];
      return { cos: upload('f32', cos, shape), sin: upload('f32', sin, shape) };
    };
    return {
      ids,
      lengths,
      rotation: rotation(ropeTable),
      ...(windowRopeTable && { windowRotation: rotation(windowRopeTable) }),
    };
  }

  /** The residual stream before the first layer. */
  embed(pass: DecoderPass): Tensor {
    return scope(() => embed(this.config, this.#weights, pass));
  }

  /** The residual stream after a layer; `see` is shown its attention. */
  layer(pass: DecoderPass, index: number, x: Tensor, see?: (seen: SeenAttention) => void): Tensor {
    const observed = see === undefined ? pass : { ...pass, observe: see };
    return scope(() => decoderLayer(this.config, this.#weights.layers[index], observed, index, x));
  }

  /** f32 `[B, T, V]` */
  logits(x: Tensor): Tensor {
    const weights = this.#weights;
    return scope(() => outputHead(this.config, weights, normalize(this.config, x, weights.finalNorm)));
  }

  dispose(): void {
    for (const tensor of this.#tensors) tensor.dispose();
  }
}

export function freePass({ ids, positions, rotation, windowRotation }: DecoderPass): void {
  const angles = [rotation, windowRotation].flatMap((one) => (one ? [one.cos, one.sin] : []));
  for (const tensor of [ids, positions, ...angles]) tensor?.dispose();
}
