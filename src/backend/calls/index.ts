/** All kernel calls. */
import * as attention from './attention.ts';
import type { ArgumentsOf, Call } from './call.ts';
import * as copy from './copy.ts';
import * as elementwise from './elementwise.ts';
import * as experts from './experts.ts';
import * as linear from './linear.ts';
import * as loss from './loss.ts';
import * as matmul from './matmul.ts';
import * as norm from './norm.ts';
import * as optimizer from './optimizer.ts';
import * as random from './random.ts';
import * as reduce from './reduce.ts';
import * as rope from './rope.ts';

/** In the order of GQA_OPS in kernels/gqa.h: a call's index is the operation's number. */
export const CALLS: readonly Call[] = [
  copy.fill,
  copy.convert,
  copy.copyStrided,
  elementwise.unary,
  elementwise.binary,
  reduce.reduce,
  reduce.softmax,
  matmul.matmul,
  linear.linear,
  copy.embedding,
  norm.rmsNorm,
  norm.layerNorm,
  rope.rope,
  elementwise.gated,
  attention.attention,
  random.random,
  elementwise.unaryBackward,
  elementwise.gatedBackward,
  norm.normBackward,
  copy.embeddingBackward,
  loss.crossEntropy,
  loss.crossEntropyBackward,
  optimizer.sumOfSquares,
  optimizer.adamw,
  attention.attentionBackward,
  experts.chooseExperts,
  experts.expertLinear,
  experts.expertLinearBackward,
  linear.linearBackward,
  copy.select,
];

/** Their names in GQA_OPS. */
export const KERNEL_NAMES: readonly string[] = CALLS.map(({ name }) =>
  name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
);

/** Equals GQA_ABI of kernels/gqa.h; raise both when the block of an operation changes. */
export const KERNEL_ABI = 8;

/** What builds of the kernels state: both in one text, as GQA_ABI_TEXT of kernels/gqa.h. */
export const KERNEL_ABI_TEXT: string = [KERNEL_ABI, ...KERNEL_NAMES].join(' ');

type CallModules = typeof attention &
  typeof copy &
  typeof elementwise &
  typeof experts &
  typeof linear &
  typeof loss &
  typeof matmul &
  typeof norm &
  typeof optimizer &
  typeof random &
  typeof reduce &
  typeof rope;

/** A function for each call, by its name. */
export type CallFunctions = {
  readonly [C in Extract<CallModules[keyof CallModules], Call> as C['name']]: (args: ArgumentsOf<C>) => void;
};
