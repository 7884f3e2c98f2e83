/** Rotary position embedding (kernels/rope.c). */

/**
 * Rotates the first `2 * half` dims of each head: x and out `[tokens, heads, headDim]`, cos and sin `[tokens,
 * half]`, f32. Pairs are (i, i + half), or (2i, 2i + 1) when `interleaved`; the other dims pass through.
 * `direction` is 1, or -1 for the inverse rotation. May be in place.
 */
export const rope = {
  name: 'rope',
  fields: {
    out: 'f32',
    x: 'f32',
    tokens: 'number',
    heads: 'number',
    headDim: 'number',
    cos: 'f32',
    sin: 'f32',
    half: 'number',
    interleaved: 'flag',
    direction: 'number',
  },
} as const;
