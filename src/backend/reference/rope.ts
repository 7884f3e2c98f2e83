/** Rotary position embedding of the reference backend. */
import type { ArgumentsOf } from '../calls/call.ts';
import type * as calls from '../calls/rope.ts';
import { store, valuesOf } from './memory.ts';

export function rope(call: ArgumentsOf<typeof calls.rope>): void {
  const { tokens, heads, headDim, half, interleaved, direction } = call;
  const [values, c, s] = [valuesOf(call.x), valuesOf(call.cos), valuesOf(call.sin)];
  const result = Float64Array.from(values);
  for (let token = 0; token < tokens; token++) {
    for (let head = 0; head < heads; head++) {
      const start = (token * heads + head) * headDim;
      for (let i = 0; i < half; i++) {
        const first = start + (interleaved ? 2 * i : i);
        const second = interleaved ? first + 1 : first + half;
        const angle = token * half + i;
        const sine = direction * s[angle];
        result[first] = values[first] * c[angle] - values[second] * sine;
        result[second] = values[second] * c[angle] + values[first] * sine;
      }
    }
  }
  store(call.out, result);
}
