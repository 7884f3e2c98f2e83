/** Embedding lookup. */

import { aFunction, anything, checkPositiveInteger } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { broadcastTo } from '../ops/broadcast-to.ts';
import { cast } from '../ops/cast.ts';
import { embedding } from '../ops/embedding.ts';
import { matmul } from '../ops/matmul.ts';
import { reshape } from '../ops/reshape.ts';
import { aDType, type DType } from '../tensor/dtype.ts';
import { scope } from '../tensor/scope.ts';
import { shapeText } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type Initializer, varianceScaling } from './initializers.ts';
import { makeParam } from './linear.ts';
import { Module } from './module.ts';
import { resultDType, rounded } from './promote.ts';
import type { Rngs } from './rngs.ts';
import type { Param } from './variable.ts';

/** Options of `Embed`. */
export interface EmbedOptions {
  /** Rows of the table. */
  readonly numEmbeddings: number;
  /** Width of a row. */
  readonly features: number;
  /** Dtype of the vectors; default `paramDtype`. */
  readonly dtype?: DType;
  /** Default f32. */
  readonly paramDtype?: DType;
  /** Default `varianceScaling(1, 'fan_in', 'normal', { outAxis: 0 })`. */
  readonly embeddingInit?: Initializer;
  /** Keys of the initial parameters. */
  readonly rngs: Rngs;
}

const OPTIONS = optionKinds<EmbedOptions>({
  numEmbeddings: anything,
  features: anything,
  dtype: aDType,
  paramDtype: aDType,
  embeddingInit: aFunction,
  rngs: anything,
});

/** A table of vectors `[numEmbeddings, features]`, read by id. Source: flax/nnx/nn/linear.py (Embed). */
export class Embed extends Module {
  /** `[numEmbeddings, features]` */
  readonly embedding: Param;
  readonly numEmbeddings: number;
  readonly features: number;
  readonly dtype: DType;

  /** @throws RangeError unless both counts are positive integers. */
  constructor(options: EmbedOptions) {
    super();
    checkOptions('Embed', options, OPTIONS);
    const { numEmbeddings, features, paramDtype = 'f32', rngs } = options;
    this.numEmbeddings = checkPositiveInteger('Embed', 'numEmbeddings', numEmbeddings);
    this.features = checkPositiveInteger('Embed', 'features', features);
    this.dtype = options.dtype ?? paramDtype;
    const init = options.embeddingInit ?? varianceScaling(1, 'fan_in', 'normal', { outAxis: 0 });
    this.embedding = makeParam(init, rngs, [numEmbeddings, features], paramDtype);
  }

  /**
   * @param ids i32, any shape. A table of one row returns that row for every id, as in Flax.
   * @throws TypeError for other dtypes; RangeError for an id outside the table (Flax gives NaN).
   * @returns `[...ids.shape, features]`.
   */
  forward(ids: Tensor): Tensor {
    if (!['i32', 'u32', 'u8'].includes(ids.dtype)) {
      throw new TypeError('Input type must be an integer or unsigned integer.');
    }
    return scope(() => {
      const table = this.embedding.value;
      if (this.numEmbeddings > 1) return cast(embedding(table, cast(ids, 'i32')), this.dtype);
      const row = reshape(table, [...ids.shape.map(() => 1), this.features]);
      return cast(broadcastTo(row, [...ids.shape, this.features]), this.dtype);
    });
  }

  /**
   * Inner products with every vector: logits, for tied weights.
   * @param query `[…, features]`.
   * @returns `[…, numEmbeddings]`.
   */
  attend(query: Tensor): Tensor {
    if (query.shape.at(-1) !== this.features) {
      throw new RangeError(`Embed: expected a query […, ${this.features}], got ${shapeText(query.shape)}`);
    }
    return scope(() => {
      const dtype = resultDType('Embed', this.dtype, query);
      const x = query.shape.length === 1 ? reshape(query, [1, this.features]) : query;
      const y = matmul(rounded(x, dtype), rounded(this.embedding.value, dtype), { transposeB: true });
      return cast(reshape(y, [...query.shape.slice(0, -1), this.numEmbeddings]), dtype);
    });
  }
}
