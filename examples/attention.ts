import { dotProductAttention, tensor } from 'gqa';

/** A tensor of some numbers. */
function numbers(...shape: number[]) {
  const size = shape.reduce((product, n) => product * n, 1);
  return tensor(
    Float32Array.from({ length: size }, (_, i) => Math.sin(i)),
    { shape },
  );
}

// [batch, tokens, heads, head dim]: 8 query heads on 2 key/value heads, 4 query heads for each.
const query = numbers(1, 5, 8, 16);
const key = numbers(1, 5, 2, 16);
const value = numbers(1, 5, 2, 16);

const output = dotProductAttention(query, key, value, { isCausal: true });
console.log('output', output.shape);
console.log('first token, last head', (await output.data())[7 * 16].toFixed(4), Math.sin(16).toFixed(4));
