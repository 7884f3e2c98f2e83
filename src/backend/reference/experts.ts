/** Mixture of experts of the reference backend: routing, expert projections and their gradients. */
import type { ArgumentsOf, Operand } from '../calls/call.ts';
import type {
  chooseExperts as choose,
  ExpertLinearBackwardCall,
  ExpertLinearCall,
} from '../calls/experts.ts';
import { decodeAt, store, valuesOf } from './memory.ts';

export function chooseExperts(call: ArgumentsOf<typeof choose>): void {
  const { rows, numExperts: E, groups, keptGroups, best, count } = call;
  const scores = valuesOf(call.scores);
  const bias = call.bias && valuesOf(call.bias);
  const values: number[] = [];
  const ids: number[] = [];
  for (let row = 0; row < rows; row++) {
    const choice = Array.from({ length: E }, (_, e) => scores[row * E + e] + (bias ? bias[e] : 0));
    const size = E / groups;
    const judged = Array.from({ length: groups }, (_, g) => {
      const own = choice.slice(g * size, (g + 1) * size).sort((a, b) => b - a);
      return own.slice(0, best).reduce((sum, value) => sum + value, 0);
    });
    const kept = new Set(descending(judged).slice(0, keptGroups));
    const allowed = descending(choice).filter((e) => kept.has(Math.floor(e / size)));
    for (const e of allowed.slice(0, count)) {
      ids.push(e);
      values.push(scores[row * E + e]);
    }
  }
  store(call.values, values);
  store(call.ids, ids);
}

/** Indices sorted by descending value, NaN first; ties in index order. */
function descending(values: readonly number[]): number[] {
  const isAbove = (a: number, b: number) => a > b || (Number.isNaN(a) && !Number.isNaN(b));
  return values
    .map((_, i) => i)
    .sort((a, b) => {
      if (isAbove(values[a], values[b])) return -1;
      return isAbove(values[b], values[a]) ? 1 : a - b;
    });
}

export function expertLinear({ x, ids, pairs, each, inFeatures, transposed, parts }: ExpertLinearCall): void {
  const rows = valuesOf(x);
  const chosen = valuesOf(ids);
  for (const { weights, biases, outFeatures, out } of parts) {
    const result = new Float64Array(pairs * outFeatures);
    for (let pair = 0; pair < pairs; pair++) {
      const weight = elements(weights[chosen[pair]], inFeatures * outFeatures);
      const bias = biases && valuesOf(biases[chosen[pair]]);
      const row = Math.floor(pair / each) * inFeatures;
      for (let o = 0; o < outFeatures; o++) {
        let sum = 0;
        for (let i = 0; i < inFeatures; i++) {
          sum += rows[row + i] * weight[transposed ? i * outFeatures + o : o * inFeatures + i];
        }
        result[pair * outFeatures + o] = sum + (bias ? bias[o] : 0);
      }
    }
    store(out, result);
  }
}

function elements({ storage, dtype }: Operand, count: number): ArrayLike<number> {
  return decodeAt(storage, dtype, 0, count);
}

export function expertLinearBackward(call: ExpertLinearBackwardCall): void {
  const { pairs, each, inFeatures, outFeatures, transposed, dWeights, dBiases } = call;
  const [rows, gradients, chosen] = [call.x, call.dOut, call.ids].map(valuesOf);
  for (let e = 0; e < call.numExperts; e++) {
    const dWeight = new Float64Array(inFeatures * outFeatures);
    const dBias = new Float64Array(outFeatures);
    for (let pair = 0; pair < pairs; pair++) {
      if (chosen[pair] !== e) continue;
      for (let o = 0; o < outFeatures; o++) {
        const g = gradients[pair * outFeatures + o];
        dBias[o] += g;
        for (let i = 0; i < inFeatures; i++) {
          dWeight[transposed ? i * outFeatures + o : o * inFeatures + i] +=
            g * rows[Math.floor(pair / each) * inFeatures + i];
        }
      }
    }
    const [weight, bias] = [dWeights[e], dBiases[e]];
    if (weight) store(weight, dWeight);
    if (bias) store(bias, dBias);
  }
}
