/** What `gqa demo` found: the shape of its `--json`, and what its table and its page are made from. */
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
  readonly uptraining: {
    readonly steps: number;
    /** Of the steps that the model was trained for. */
    readonly alpha: number;
    readonly tokensPerStep: number;
    readonly learningRate: number;
  };
  /** What the decode speed was measured on: sequences at once, and tokens that each held at the end. */
  readonly decode: { readonly batchSize: number; readonly contextLength: number };
  readonly original: DemoModel & { readonly loss: number };
  /** K = 2, then K = 1. */
  readonly converted: readonly DemoConversion[];
  readonly seconds: number;
}

export interface DemoModel {
  readonly numKeyValueHeads: number;
  /** Its folder in the demo's own. */
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
    /** Of the method that was better. */
    readonly converted: number;
    readonly uptrained: number;
  };
  readonly drift: DriftReport;
  /** Validation loss while uptraining; step 0 is the conversion. */
  readonly curve: readonly { readonly step: number; readonly loss: number }[];
  /** Of uptraining. */
  readonly seconds: number;
}
