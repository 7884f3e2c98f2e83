/** Attention weights of one layer over a text. */
import { scope } from 'gqa';
import { modelOf, theTokenizer, type Which } from './models.ts';

/** Enough to see a pattern; the maps of more are too fine. */
const MAX_TOKENS = 48;

/** The softmax weights of a layer. */
export interface Attention {
  /** The text of each token. */
  readonly tokens: readonly string[];
  readonly numHeads: number;
  /** `[N, T, T]`: head, query token, key token. */
  readonly weights: Float32Array<ArrayBuffer>;
  /** Whether the text has more tokens than are shown. */
  readonly isCut: boolean;
}

export function attention(which: Which, text: string, layer: number): Attention {
  const model = modelOf(which);
  const tokenizer = theTokenizer();
  const all = tokenizer.encode(text);
  const ids = all.slice(0, MAX_TOKENS);
  const tokens = ids.map((id) => tokenizer.decode([id]));
  const { numHeads } = model.config;
  if (ids.length === 0) return { tokens, numHeads, weights: new Float32Array(0), isCut: false };
  const weights = scope(() => {
    const { attentions } = model.forward([ids], { output: ['attentions'], logits: 'last' });
    return Float32Array.from(attentions[layer].dataSync() as Float32Array);
  });
  return { tokens, numHeads, weights, isCut: all.length > MAX_TOKENS };
}
