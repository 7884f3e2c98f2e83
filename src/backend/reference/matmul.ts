/** Matrix products of the reference backend. */
import type { ArgumentsOf } from '../calls/call.ts';
import type * as calls from '../calls/matmul.ts';
import { store, valuesOf } from './memory.ts';

export function matmul(call: ArgumentsOf<typeof calls.matmul>): void {
  const { batch, M, N, K, transposeA, transposeB } = call;
  const [x, y] = [valuesOf(call.a), valuesOf(call.b)];
  const [xm, xk] = transposeA ? [1, M] : [K, 1];
  const [yk, yn] = transposeB ? [1, K] : [N, 1];
  const result = new Float64Array(batch * M * N);
  let next = 0;
  for (let i = 0; i < batch; i++) {
    for (let m = 0; m < M; m++) {
      for (let n = 0; n < N; n++) {
        let at = i * call.aBatchStride + m * xm;
        let bt = i * call.bBatchStride + n * yn;
        let sum = 0;
        for (let k = 0; k < K; k++, at += xk, bt += yk) sum += x[at] * y[bt];
        result[next++] = sum;
      }
    }
  }
  store(call.out, result);
}
