/** How exactly products are computed: a setting of the program, and of a model for its own passes. */
import { show } from '../arguments/kinds.ts';
import { MATMUL_PRECISIONS, type MatmulPrecision } from '../backend/calls/call.ts';
import { environment } from '../platform/node.ts';

let ofProgram: MatmulPrecision | undefined;
/** Of the pass that runs, which is synchronous. */
let ofPass: MatmulPrecision | undefined;

/**
 * Sets how `linear`, `matmul` and attention multiply from now on, in every layer and model without a value of
 * its own. Default: `GQA_MATMUL_PRECISION`, else `'highest'`.
 *
 * - `'highest'`: f32 operands and f32 sums.
 * - `'bfloat16'`: operands of `linear` and `matmul` (their gradients included) and of attention over many rows
 *   may be rounded to bfloat16 (8 significant bits); sums are f32. Only where the processor multiplies bfloat16
 *   faster than f32; elsewhere as `'highest'`.
 * - `'int8'`: `linear` with weights in `q8_0`, `q4_0` to `q5_1` or `q4_k` to `q6_k` may round x to 8 bits, with one
 *   scale per 32 values; the rest as `'highest'`. Not for training.
 *
 * `getBackend().description` names the units in use.
 * @throws RangeError for another value.
 * @example setMatmulPrecision('bfloat16');
 */
export function setMatmulPrecision(precision: MatmulPrecision): void {
  ofProgram = checkMatmulPrecision('setMatmulPrecision', precision);
}

/** The precision of products that run now. */
export function matmulPrecision(): MatmulPrecision {
  if (ofPass !== undefined) return ofPass;
  ofProgram ??= checkMatmulPrecision(
    'GQA_MATMUL_PRECISION',
    environment('GQA_MATMUL_PRECISION') ?? 'highest',
  );
  return ofProgram;
}

/** Runs `pass` with a precision of its own; undefined leaves it as it is. */
export function withMatmulPrecision<Result>(
  precision: MatmulPrecision | undefined,
  pass: () => Result,
): Result {
  const before = ofPass;
  ofPass = precision ?? before;
  try {
    return pass();
  } finally {
    ofPass = before;
  }
}

/** @throws Error for products whose gradients are recorded: 8-bit activations have none */
export function refuseInt8(op: string, precision: MatmulPrecision): void {
  if (precision !== 'int8') return;
  throw new Error(`${op}: expected matmul precision highest or bfloat16 for gradients, got int8`);
}

/** @throws RangeError unless it is one of the three; `op` is the function named in errors */
export function checkMatmulPrecision(op: string, precision: unknown): MatmulPrecision {
  if (MATMUL_PRECISIONS.includes(precision as MatmulPrecision)) return precision as MatmulPrecision;
  throw new RangeError(`${op}: expected ${MATMUL_PRECISIONS.join(', ')}, got ${show(precision)}`);
}
