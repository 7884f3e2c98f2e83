import { MultiHeadAttention, Rngs } from 'gqa/nn';
import { key, normal } from 'gqa/random';

const layer = new MultiHeadAttention({
  numHeads: 32,
  numKeyValueHeads: 8,
  inFeatures: 512,
  decode: false,
  rngs: new Rngs(0),
});
const x = normal(key(1), [1, 16, 512]);
const y = layer.forward(x, undefined, undefined, { isCausal: true });

console.log(...layer.key.kernel.value.shape);
console.log(...Array.from((await y.data()).slice(-4), (n) => n.toFixed(4)));
