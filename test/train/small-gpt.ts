/** The GPT that tools/golden/train.py writes in PyTorch, in ops and parameters of this library. */
import {
  add,
  dotProductAttention,
  embedding,
  gelu,
  layerNorm,
  linear,
  reshape,
  type Tensor,
  tensor,
} from '../../src/index.ts';
import { Param } from '../../src/nn/index.ts';
import { linears } from '../../src/ops/linear.ts';
import type { LanguageModel } from '../../src/train/index.ts';
import type { GoldenFile } from '../ops/golden.ts';

const [N, K, D, LAYERS] = [6, 2, 24, 2];
const H = D / N;

export function smallGpt(golden: GoldenFile<unknown>): LanguageModel & {
  parameters(): Map<string, Param>;
  dispose(): void;
} {
  const parameters = new Map<string, Param>();
  const weight = (name: string): Tensor => {
    let parameter = parameters.get(name);
    if (!parameter) {
      const input = golden.input(`weight/${name}`);
      if (!input) throw new Error(`no weight ${name}`);
      parameter = new Param(tensor(Float32Array.from(input.values), { shape: input.shape }));
      parameters.set(name, parameter);
    }
    return parameter.value;
  };
  const norm = (x: Tensor, name: string) =>
    layerNorm(x, weight(`${name}.weight`), weight(`${name}.bias`), { eps: 1e-5 });
  const dense = (x: Tensor, name: string) => linear(x, weight(`${name}.weight`), weight(`${name}.bias`));
  const attention = (x: Tensor, name: string) => {
    const [B, T] = x.shape;
    const parts = ['q_proj', 'k_proj', 'v_proj'].map((part) => ({
      weight: weight(`${name}.${part}.weight`),
    }));
    const [q, k, v] = linears(x, parts);
    const [query, key, value] = [q, k, v].map((y, i) => reshape(y, [B, T, i === 0 ? N : K, H]));
    const y = dotProductAttention(query, key, value, { isCausal: true });
    return linear(reshape(y, [B, T, D]), weight(`${name}.o_proj.weight`));
  };
  const forward = (tokens: readonly (readonly number[])[] | Tensor): Tensor => {
    const rows = tokens as readonly (readonly number[])[];
    const [B, T] = [rows.length, rows[0].length];
    const ids = tensor(Int32Array.from(rows.flat()), { shape: [B, T] });
    const positions = tensor(Int32Array.from({ length: T }, (_, i) => i));
    let x = add(embedding(weight('wte.weight'), ids), embedding(weight('wpe.weight'), positions));
    for (let i = 0; i < LAYERS; i++) {
      x = add(x, attention(norm(x, `h.${i}.ln_1`), `h.${i}.attn`));
      x = add(x, dense(gelu(dense(norm(x, `h.${i}.ln_2`), `h.${i}.fc`)), `h.${i}.proj`));
    }
    return linear(norm(x, 'ln_f'), weight('wte.weight'));
  };
  // Every parameter exists before the first gradient.
  forward([[0, 1]]).dispose();
  return {
    forward,
    parameters: () => parameters,
    dispose() {
      for (const parameter of parameters.values()) parameter.dispose();
    },
  };
}
