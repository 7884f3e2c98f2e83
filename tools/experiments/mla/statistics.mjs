/** What a calibration text says of each layer, and the layer that `similar` makes of it. */

/**
 * @param rows calibration tokens, rows of one length
 * @returns per layer: `moments` `[D, D]`, the mean of x x^T over the inputs x of attention; its weights in f32,
 *   `query`, `key`, `value` and `output` (o transposed); `outputs`, O^T O of each query head's columns of o;
 *   `similar`, how that method merges its heads into one
 */
export function layerStatistics(library, decoder, rows) {
  const { attentionInput, cast, freePass, matmul, mul, outputMoments, reshape, scope } = library;
  const { seenStatistics, similarMix, transpose } = library;
  const { config } = decoder;
  const tokens = rows.length * rows[0].length;
  const pass = decoder.pass(rows);
  const found = [];
  let x = decoder.embed(pass);
  decoder.layers.forEach((layer, index) => {
    const { weight } = layer.attentionOutput;
    const tensors = scope(() => {
      const [query, key, value] = layer.queryKeyValue.map((projection) => cast(projection.weight, 'f32'));
      const flat = reshape(attentionInput(config, layer, x), [tokens, config.hiddenSize]);
      const moments = mul(matmul(flat, flat, { transposeA: true }), 1 / tokens);
      return { query, key, value, output: transpose(cast(weight, 'f32')), moments };
    });
    const outputs = outputMoments(config, weight);
    let similar;
    const next = decoder.layer(pass, index, x, (seen) => {
      similar = similarMix(config, seenStatistics(config, seen, outputs), 1);
    });
    x.dispose();
    x = next;
    found.push({ ...tensors, outputs, similar });
  });
  x.dispose();
  freePass(pass);
  return found;
}
