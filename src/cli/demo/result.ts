/** The result of `gqa demo`: the shape of its `--json`, from which its table and page are made. */
import type { ConvertMethod, DriftReport } from '../../convert/index.ts';

export interface DemoResult {
  readonly backend: string;
  readonly model: {
    readonly parameters: number;
    readonly numLayers: number;
    readonly numHeads: number;
    readonly numKeyValueHeads: number;
    readonly headDim: number;
  };
  /** Tokens predicted for each loss, from the end of the novel, which the model was not trained on. */
  readonly validationTokens: number;
  /** Steps for each layer, then for all layers together. */
  readonly distillation: { readonly steps: number; readonly finalSteps: number };
  /** The decode benchmark: batch size, and tokens cached per sequence at its end. */
  readonly decode: { readonly batchSize: number; readonly contextLength: number };
  readonly original: DemoModel & { readonly loss: number };
  /** K = 2, then K = 1. */
  readonly converted: readonly DemoConversion[];
  readonly seconds: number;
}

export interface DemoModel {
  readonly numKeyValueHeads: number;
  /** Its folder inside the demo's folder. */
  readonly checkpoint: string;
  /** f32. */
  readonly kvBytesPerToken: number;
  readonly decodeTokensPerSecond: number;
  /** A continuation of the prompt. */
  readonly sample: string;
}

export interface DemoConversion extends DemoModel {
  readonly method: ConvertMethod;
  readonly loss: {
    /** Right after conversion, by each method. */
    readonly mean: number;
    readonly similar: number;
    /** The better of the two. */
    readonly converted: number;
    readonly distilled: number;
  };
  /** Of the conversion without distillation. */
  readonly drift: DriftReport;
  /** Duration of the distillation. */
  readonly seconds: number;
}
