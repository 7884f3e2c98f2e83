/** AdamW and the sum of squares of the reference backend. */
import type { AdamwCall, SumOfSquaresCall } from '../calls/optimizer.ts';
import { store, valuesOf } from './memory.ts';

export function sumOfSquares({ out, xs }: SumOfSquaresCall): void {
  let total = 0;
  for (const x of xs) for (const value of valuesOf(x)) total += value * value;
  store(out, [total]);
}

export function adamw(call: AdamwCall): void {
  const { b1, b2, eps, learningRate, step } = call;
  const scale = call.gradientScale ? valuesOf(call.gradientScale)[0] : 1;
  for (const { weightDecay, ...part } of call.parts) {
    const [p, g, m, v] = [part.parameter, part.gradient, part.m, part.v].map((x) =>
      Float64Array.from(valuesOf(x)),
    );
    for (let i = 0; i < p.length; i++) {
      const gradient = g[i] * scale;
      m[i] = b1 * m[i] + (1 - b1) * gradient;
      v[i] = b2 * v[i] + (1 - b2) * gradient ** 2;
      const mean = m[i] / (1 - b1 ** step);
      const deviation = Math.sqrt(v[i] / (1 - b2 ** step));
      p[i] -= learningRate * (mean / (deviation + eps) + weightDecay * p[i]);
    }
    store(part.parameter, p);
    store(part.m, m);
    store(part.v, v);
  }
}
