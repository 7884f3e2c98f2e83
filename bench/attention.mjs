/** Attention beside PyTorch, ONNX Runtime and jax-js: the rows of attention in bench/README.md. */
import { measureAttention } from './rows.mjs';

const prefill = (T, H) => ({ B: 1, T, S: T, N: 32, K: 8, H, causal: true, dtype: 'f32' });
const decode = (K, dtype, rotateBytes) => ({
  B: 1,
  T: 1,
  S: 4096,
  N: 32,
  K,
  H: 128,
  causal: false,
  dtype,
  rotateBytes,
});

export async function attention(options) {
  const { threads, rotateBytes } = options;
  const all = ['native', 'torch', 'onnxruntime'];
  const section = 'attention';
  for (const [T, H] of [
    [512, 64],
    [2048, 128],
  ]) {
    const shape = prefill(T, H);
    const prefills = { section, shape, threads };
    await measureAttention(
      { ...prefills, name: `prefill T${T} H${H} f32`, contenders: all, roof: 'fma' },
      options,
    );
    const bf16 = { ...prefills, shape: { ...shape, dtype: 'bf16' }, roof: 'bf16' };
    const contenders = ['native bfloat16', 'native', 'torch'];
    await measureAttention({ ...bf16, name: `prefill T${T} H${H} bf16`, contenders }, options);
  }
  for (const dtype of ['f32', 'bf16']) {
    for (const K of [32, 8, 1]) {
      const shape = decode(K, dtype, rotateBytes);
      const contenders = dtype === 'f32' ? all : ['native', 'torch'];
      await measureAttention(
        { section, name: `decode S4096 K${K} ${dtype}`, shape, contenders, threads, roof: 'read' },
        options,
      );
    }
  }
  const BNTH = { ...decode(32, 'f32', rotateBytes), layout: 'BNTH' };
  await measureAttention(
    {
      section,
      name: 'decode S4096 K32 f32 BNTH',
      shape: BNTH,
      contenders: ['native', 'torch'],
      threads,
      roof: 'read',
    },
    options,
  );
  const wasm = { section, threads: [1], roof: 'fma', form: '128' };
  await measureAttention(
    { ...wasm, name: 'WASM prefill T512 H64 f32', shape: prefill(512, 64), contenders: ['wasm', 'jax-js'] },
    options,
  );
  await measureAttention(
    { ...wasm, name: 'WASM prefill T2048 H128 f32', shape: prefill(2048, 128), contenders: ['wasm'] },
    options,
  );
  // Less memory to rotate through: WASM has 4 GiB at most, and jax-js keeps its copies there too.
  const shape = decode(8, 'f32', Math.min(rotateBytes, 2 ** 30));
  await measureAttention(
    { ...wasm, roof: 'read', name: 'WASM decode S4096 K8 f32', shape, contenders: ['wasm', 'jax-js'] },
    options,
  );
}
