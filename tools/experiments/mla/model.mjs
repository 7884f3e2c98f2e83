/** Passes over texts with some other layers in place of the model's own. */

/**
 * What a decoder's layer index is replaced by: a layer, and for a latent one the config and the rotary planes.
 * @typedef {{ layer: object, config?: object, planes?: readonly number[] }} Replacement
 */

/** The config of layers of `latentLayer`: one head dim, the old scale of scores, pairs next to each other. */
export function latentConfig(config, headDim) {
  const scale = 1 / Math.sqrt(config.headDim);
  const attention = config.attention.map((layer) => ({ scale, ...layer }));
  return { ...config, headDim, attention, rope: { ...config.rope, interleaved: true } };
}

/**
 * The residual stream after all layers.
 * @param rows token rows of one length
 * @param replaced the replacement of a layer's index, made just before the layer and freed after it
 */
export function forward(library, decoder, rows, replaced) {
  const { decoderLayer, freePass, scope } = library;
  const pass = decoder.pass(rows);
  let x = decoder.embed(pass);
  for (let index = 0; index < decoder.config.numLayers; index++) {
    const next = scope(() => {
      const { layer, config = decoder.config, planes } = replaced(index);
      const rotation = planes ? rotationOf(library, decoder, rows, planes) : pass.rotation;
      return decoderLayer(config, layer, { ...pass, rotation }, index, x);
    });
    x.dispose();
    x = next;
  }
  freePass(pass);
  return x;
}

/** Cosines and sines of some planes of the model's table. */
function rotationOf({ tensor }, decoder, rows, planes) {
  if (planes.length === 0) return undefined;
  const [B, T] = [rows.length, rows[0].length];
  const { half } = decoder.parts.ropeTable;
  const table = decoder.parts.ropeTable.rows([0], T);
  const columns = (all) =>
    tensor(
      Float32Array.from({ length: B * T * planes.length }, (_, i) => {
        const t = Math.floor(i / planes.length) % T;
        return all[t * half + planes[i % planes.length]];
      }),
      { shape: [B, T, planes.length] },
    );
  return { cos: columns(table.cos), sin: columns(table.sin) };
}

/** Mean loss in nats per token of each group of rows; all rows have one length. */
export function losses(library, decoder, groups, replaced) {
  const { scope, slice, softmaxCrossEntropy, tensor } = library;
  const rows = groups.flat();
  const x = forward(library, decoder, rows, replaced);
  const each = rows.map((row, i) =>
    scope(() => {
      const logits = decoder.logits(slice(x, [i], [i + 1]));
      const labels = tensor([...row.slice(1), -1], { shape: [1, row.length], dtype: 'i32' });
      const loss = softmaxCrossEntropy(logits, labels).dataSync();
      return loss.reduce((sum, value) => sum + value, 0) / (row.length - 1);
    }),
  );
  x.dispose();
  let next = 0;
  return groups.map((group) => group.reduce((sum) => sum + each[next++], 0) / group.length);
}

/** The logits of one row as numbers. */
export function logitsOf(library, decoder, row, replaced) {
  const x = forward(library, decoder, [row], replaced);
  const logits = library.scope(() => Float32Array.from(decoder.logits(x).dataSync()));
  x.dispose();
  return logits;
}
