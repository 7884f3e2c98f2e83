/**
 * A checkpoint's decoder for measurements: its weights, and a pass over token rows layer by layer.
 */
import { readyBackend } from '../backend/registry.ts';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { openCheckpoint } from '../checkpoint/open-checkpoint.ts';
import type { ModelSource, SourceOptions } from '../files/source.ts';
import { decoderLayer, embed, normalize, outputHead } from '../models/decoder.ts';
import type { DecoderConfig } from '../models/decoder-config.ts';
import { type DecoderPass, makePass, type SeenAttention, type SeenHeads } from '../models/decoder-pass.ts';
import type { DecoderLayer } from '../models/decoder-weights.ts';
import { describeModel } from '../models/describe-model.ts';
import type { DecoderDescription } from '../models/families/family.ts';
import { loadParts } from '../models/load-parts.ts';
import type { ModelParts } from '../models/model.ts';
import { paddedBatch } from '../models/token-batch.ts';
import { scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Tokenizer } from '../text/tokenizer.ts';

export class OpenedDecoder {
  readonly config: DecoderConfig;
  readonly tokenizer: Tokenizer | undefined;
  /** Freed by `dispose`. */
  readonly parts: ModelParts;

  private constructor(parts: ModelParts) {
    this.parts = parts;
    this.config = parts.config;
    this.tokenizer = parts.makeTokenizer?.();
  }

  static async open(source: ModelSource, options?: SourceOptions): Promise<OpenedDecoder> {
    await using checkpoint = await openCheckpoint(source, options);
    return await OpenedDecoder.of(checkpoint, await describeModel(checkpoint, await readyBackend()));
  }

  static async of(
    checkpoint: Checkpoint,
    description: DecoderDescription,
    signal?: AbortSignal,
  ): Promise<OpenedDecoder> {
    const parts = await loadParts(checkpoint, description, { backend: await readyBackend(), signal });
    try {
      checkLayers(description.config);
      return new OpenedDecoder(parts);
    } catch (error) {
      for (const tensor of parts.tensors) tensor.dispose();
      throw error;
    }
  }

  get layers(): readonly DecoderLayer[] {
    return this.parts.weights.layers;
  }

  /** What a pass over rows of one length needs; free it with `freePass`. */
  pass(rows: readonly (readonly number[])[]): DecoderPass {
    const batch = paddedBatch(rows);
    return makePass(this.parts, batch, { offsets: rows.map(() => 0), ends: batch.lengths });
  }

  /** The residual stream before the first layer. */
  embed(pass: DecoderPass): Tensor {
    return scope(() => embed(this.config, this.parts.weights, pass));
  }

  /** The residual stream after a layer; `see` gets its attention tensors unless they are latent. */
  layer(pass: DecoderPass, index: number, x: Tensor, see?: (seen: SeenHeads) => void): Tensor {
    const observe = ({ query, key, value, ...rest }: SeenAttention) => {
      if (query && key && value) see?.({ query, key, value, ...rest });
    };
    const observed = see === undefined ? pass : { ...pass, observe };
    return scope(() => decoderLayer(this.config, this.layers[index], observed, index, x));
  }

  /** f32 `[B, T, V]` */
  logits(x: Tensor): Tensor {
    const { weights } = this.parts;
    return scope(() => outputHead(this.config, weights, normalize(this.config, x, weights.finalNorm)));
  }

  dispose(): void {
    for (const tensor of this.parts.tensors) tensor.dispose();
  }
}

/** @throws RangeError where a layer needs more than the residual stream before it */
function checkLayers({ layerInputs, attention, modelType }: DecoderConfig): void {
  if (!layerInputs && attention.every(({ reads }) => reads === undefined)) return;
  throw new RangeError(
    `convert: expected layers that read the residual stream alone, got ${modelType} with per-layer embeddings or shared keys and values`,
  );
}
