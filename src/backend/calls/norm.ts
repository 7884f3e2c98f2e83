/** Normalisation of f32 rows `[rows, n]` (kernels/norm.c). */

/** `x / sqrt(mean(x^2) + eps) * (weight + weightOffset)`; weight `[n]`. May be in place. */
export const rmsNorm = {
  name: 'rmsNorm',
  fields: {
    out: 'f32',
    x: 'f32',
    rows: 'number',
    n: 'number',
    weight: 'f32?',
    eps: 'number',
    weightOffset: 'number',
  },
} as const;

/** `(x - mean) / sqrt(var + eps) * weight + bias`; weight and bias `[n]`. May be in place. */
export const layerNorm = {
  name: 'layerNorm',
  fields: { out: 'f32', x: 'f32', rows: 'number', n: 'number', weight: 'f32?', bias: 'f32?', eps: 'number' },
} as const;

/**
 * The gradients of `rmsNorm` (centred false) or `layerNorm`; the mean and the scale of each row are
 * recomputed from x. Absent outputs are not computed; dWeight and dBias are `[n]`.
 */
export const normBackward = {
  name: 'normBackward',
  fields: {
    centred: 'flag',
    dOut: 'f32',
    x: 'f32',
    rows: 'number',
    n: 'number',
    weight: 'f32?',
    eps: 'number',
    weightOffset: 'number',
    dX: 'f32?',
    dWeight: 'f32?',
    dBias: 'f32?',
  },
} as const;
