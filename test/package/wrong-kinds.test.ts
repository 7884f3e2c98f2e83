/**
 * Arguments of wrong kinds from untyped callers: each gives an error of one sentence, never one of the
 * JavaScript engine.
 */
import { expect, test } from 'vitest';
import { BlockPool, PagedCache, StaticCache, WindowCache } from '../../src/cache/index.ts';
import { loadModule, loadTensor, saveModule } from '../../src/checkpoint/index.ts';
import { convertCheckpoint, measureDrift } from '../../src/convert/index.ts';
import {
  arange,
  concat,
  dotProductAttention,
  full,
  gelu,
  getBackend,
  grad,
  layerNorm,
  logSoftmax,
  matmul,
  max,
  mean,
  min,
  mul,
  rmsNorm,
  rope,
  scope,
  softmax,
  sum,
  tensor,
  valueAndGrad,
  zeros,
} from '../../src/index.ts';
import { generate, loadModel, type Model, StreamingDecoder } from '../../src/models/index.ts';
import {
  dotProductAttentionWeights,
  Linear,
  MultiHeadAttention,
  makeAttentionMask,
  makeCausalMask,
  dotProductAttention as nnAttention,
  RMSNorm,
  Rngs,
} from '../../src/nn/index.ts';
import { maxContext, planKvCache, readModelShape } from '../../src/plan/index.ts';
import { key, uniform } from '../../src/random/index.ts';
import {
  adamw,
  causalLmLoss,
  chain,
  clipByGlobalNorm,
  cosineDecaySchedule,
  createModel,
  linearSchedule,
  llamaConfig,
  Optimizer,
  sgd,
  Trainer,
  uptrain,
  warmupCosineDecaySchedule,
} from '../../src/train/index.ts';

// biome-ignore lint/suspicious/noExplicitAny: these calls are what the types forbid
type Any = any;
const none = undefined as Any;
const sizes = { batchSize: 1, maxLength: 4 };
const layers = [{ numKeyValueHeads: 1, headDim: 4 }];
const heads = { numHeads: 4, inFeatures: 8, decode: false };
const config = { vocabSize: 9, maxPositionEmbeddings: 9 };
const model = { config, endTokenIds: [], forward() {} } as unknown as Model;
const next = (prompt: Any, options?: Any) => generate(model, prompt, options).next();
const linear = () => new Linear({ inFeatures: 2, outFeatures: 3, rngs: new Rngs(0) });
const cache = () => new StaticCache({ backend: getBackend(), layers, ...sizes });

test.each<[string, () => unknown, string]>([
  ['scope', () => scope(none), 'scope: expected a function, got undefined'],
  ['grad', () => grad(3 as Any), 'grad: expected a function, got 3'],
  ['valueAndGrad', () => valueAndGrad(none), 'valueAndGrad: expected a function, got undefined'],
  ['arange', () => arange(1e12), 'arange: expected at most 4294967296 elements, got 1000000000000'],
  [
    'dotProductAttention without keys',
    () => dotProductAttention(zeros([1, 2, 3, 4]), none, none),
    'dotProductAttention: expected key to be a tensor, got undefined',
  ],
  [
    'dotProductAttention with null',
    () => dotProductAttention(zeros([2, 3, 4]), zeros([2, 3, 4]), zeros([2, 3, 4]), null as Any),
    'dotProductAttention: expected an object of options, got null',
  ],
  ['rope', () => rope(zeros([2, 3, 4]), none, none), 'rope: expected cos to be a tensor, got undefined'],
  [
    'makeCausalMask of a length',
    () => makeCausalMask(3 as Any),
    'makeCausalMask: expected x to be a tensor, got 3',
  ],
  ['setView', () => linear().setView(none), 'setView: expected an object of options, got undefined'],
  ['setState', () => linear().setState(none), 'setState: expected tensors by path, got undefined'],
  ['concat', () => concat(none), 'concat: expected an array of tensors, got undefined'],
  ['Linear', () => new Linear(none), 'Linear: expected an object of options, got undefined'],
  [
    'Linear without rngs',
    () => new Linear({ inFeatures: 1, outFeatures: 1 } as Any),
    'expected rngs to be an Rngs, such as new Rngs(0), got undefined',
  ],
  ['RMSNorm', () => new RMSNorm(none), 'RMSNorm: expected an object of options, got undefined'],
  [
    'MultiHeadAttention with a seed',
    () => new MultiHeadAttention({ ...heads, rngs: 0 as Any }),
    'expected rngs to be an Rngs, such as new Rngs(0), got 0',
  ],
  [
    'MultiHeadAttention with a number for rope',
    () => new MultiHeadAttention({ ...heads, rope: 5 as Any, rngs: new Rngs(0) }),
    'MultiHeadAttention: expected rope to be a RoPE, got 5',
  ],
  [
    'MultiHeadAttention with a number for kernelInit',
    () => new MultiHeadAttention({ ...heads, kernelInit: 3 as Any, rngs: new Rngs(0) }),
    'MultiHeadAttention: expected kernelInit to be a function, got 3',
  ],
  [
    'MultiHeadAttention with a name for attentionFn',
    () => new MultiHeadAttention({ ...heads, attentionFn: 'flash' as Any, rngs: new Rngs(0) }),
    'MultiHeadAttention: expected attentionFn to be a function, got string',
  ],
  [
    'MultiHeadAttention.initCache',
    () => new MultiHeadAttention({ ...heads, rngs: new Rngs(0) }).initCache(none),
    'initCache: expected [...batch, maxLength, features], got undefined',
  ],
  ['StaticCache', () => new StaticCache(none), 'StaticCache: expected an object of options, got undefined'],
  [
    'StaticCache on a name',
    () => new StaticCache({ ...sizes, layers, backend: 'native' as Any }),
    'StaticCache: expected backend to be a Backend, such as getBackend(), got string',
  ],
  [
    'WindowCache',
    () => new WindowCache({ ...sizes, backend: getBackend(), layers: none }),
    'WindowCache: expected layers as an array of head counts, got undefined',
  ],
  ['BlockPool', () => new BlockPool(none), 'BlockPool: expected an object of options, got undefined'],
  [
    'PagedCache',
    () => new PagedCache({ ...sizes, pool: none }),
    'PagedCache: expected pool to be a BlockPool, got undefined',
  ],
  [
    'reserve',
    () => cache().reserve(none),
    'StaticCache.reserve: expected a count of tokens, or one for each row, got undefined',
  ],
  ['adamw', () => adamw(none), 'adamw: expected an object of options, got undefined'],
  [
    'adamw with text',
    () => adamw({ learningRate: '1' as Any }),
    'adamw: expected a learning rate that is not negative, got string at step 0',
  ],
  ['sgd', () => sgd(none), 'sgd: expected an object of options, got undefined'],
  [
    'clipByGlobalNorm with text',
    () => clipByGlobalNorm('1' as Any),
    'clipByGlobalNorm: expected a positive norm, got 1',
  ],
  [
    'linearSchedule as optax takes it',
    () => (linearSchedule as Any)(1, 0, 10),
    'linearSchedule: expected an object of options, got 1',
  ],
  [
    'linearSchedule with a misspelt value',
    () => linearSchedule({ init_value: 1, endValue: 0, transitionSteps: 10 } as Any),
    'linearSchedule: expected known options, got init_value; did you mean initValue?',
  ],
  [
    'cosineDecaySchedule without a start',
    () => cosineDecaySchedule({ decaySteps: 10 } as Any),
    'cosineDecaySchedule: expected initValue to be a number, got undefined',
  ],
  [
    'warmupCosineDecaySchedule without a peak',
    () => warmupCosineDecaySchedule({ initValue: 0, warmupSteps: 1, decaySteps: 10 } as Any),
    'warmupCosineDecaySchedule: expected peakValue to be a number, got undefined',
  ],
  [
    'Optimizer without a transformation',
    () => new Optimizer(linear(), none),
    'Optimizer: expected a transformation, such as adamw({ learningRate: 1e-3 }), got undefined',
  ],
  [
    'update as optax takes it',
    () => new Optimizer(linear(), sgd({ learningRate: 1 })).update({} as Any, none),
    'Optimizer: expected update(model, gradients), got Object and undefined',
  ],
  ['Optimizer', () => new Optimizer(none, none), 'Optimizer: expected a module or a model, got undefined'],
  ['Trainer', () => new Trainer(none, none, none), 'Trainer: expected an object of options, got undefined'],
  [
    'causalLmLoss',
    () => causalLmLoss(model as Any, none),
    'causalLmLoss: expected rows of token ids or an i32 tensor [B, T], got undefined',
  ],
  [
    'causalLmLoss of one row',
    () => causalLmLoss(model as Any, [1, 2] as Any),
    'causalLmLoss: expected each row to be an array of token ids, got 1',
  ],
  [
    'causalLmLoss of a fraction that is only predicted',
    () => causalLmLoss(model as Any, [[1, 1.5]]),
    'causalLmLoss: expected token ids from 0, got 1.5',
  ],
  [
    'causalLmLoss of a row with a hole',
    () => causalLmLoss(model as Any, [new Array(3).fill(1, 0, 2)]),
    'causalLmLoss: expected token ids from 0, got undefined',
  ],
  [
    'causalLmLoss of an id that would wrap around',
    () => causalLmLoss(model as Any, [[1, 2 ** 32 + 5]]),
    'causalLmLoss: expected token ids below 2147483648, got 4294967301',
  ],
  [
    'causalLmLoss of a view without elements',
    () => causalLmLoss(model as Any, [new DataView(new ArrayBuffer(8)) as Any]),
    'causalLmLoss: expected each row to be an array of token ids, got DataView',
  ],
  [
    'causalLmLoss of no model',
    () => causalLmLoss(3 as Any, [[1, 2]]),
    'causalLmLoss: expected a model first, got 3',
  ],
  [
    'a count as text',
    () => new Linear({ inFeatures: '3', outFeatures: 4, rngs: new Rngs(0) } as Any),
    'Linear: expected inFeatures to be a positive integer, got string',
  ],
  [
    'a length as text',
    () => new StaticCache({ backend: getBackend(), layers, batchSize: 1, maxLength: '4' as Any }),
    'StaticCache: expected maxLength to be a positive integer, got string',
  ],
  [
    'MultiHeadAttention with a text for a rate',
    () => new MultiHeadAttention({ ...heads, dropoutRate: '0.5' as Any, rngs: new Rngs(0) }),
    'MultiHeadAttention: expected dropoutRate to be a number, got string',
  ],
  [
    'argnums',
    () => grad((x: Any) => x, {} as Any)(arange(1)),
    'grad: expected argnums as a number or a list of them, got Object',
  ],
  ['sgd', () => sgd(none), 'sgd: expected an object of options, got undefined'],
  [
    'adamw with a text for the decay',
    () => adamw({ learningRate: 1, weightDecay: '0.1' as Any }),
    'adamw: expected weightDecay to be a number, got string',
  ],
  [
    'chain',
    () => chain(3 as Any),
    'chain: expected a transformation, such as adamw({ learningRate }) gives, got 3',
  ],
  [
    'Optimizer with a rate',
    () => new Optimizer(new Linear({ inFeatures: 1, outFeatures: 1, rngs: new Rngs(0) }), 1e-3 as Any),
    'Optimizer: expected a transformation, such as adamw({ learningRate: 1e-3 }), got 0.001',
  ],
  [
    'Optimizer.update',
    () => {
      const linear = new Linear({ inFeatures: 1, outFeatures: 1, rngs: new Rngs(0) });
      new Optimizer(linear, sgd({ learningRate: 1 })).update(linear, none);
    },
    'Optimizer: expected update(model, gradients), got Linear and undefined',
  ],
  [
    'warmupCosineDecaySchedule',
    () => warmupCosineDecaySchedule(none),
    'warmupCosineDecaySchedule: expected an object of options, got undefined',
  ],
  ['createModel', () => createModel(none), 'createModel: expected a config, such as llamaConfig gives'],
  ['llamaConfig', () => llamaConfig(none), 'llamaConfig: expected an object of options, got undefined'],
  [
    'loadTensor',
    () => loadTensor(none, 'x'),
    'loadTensor: expected a checkpoint, such as openCheckpoint gives, got undefined',
  ],
  [
    'StreamingDecoder',
    () => new StreamingDecoder(model as Any),
    'StreamingDecoder: expected a tokenizer, such as model.tokenizer, got Object',
  ],
  [
    'planKvCache with text for a number',
    () => planKvCache('llama-3-8b', { contextLength: '5' as Any }),
    'planKvCache: expected contextLength to be a positive integer, got string',
  ],
  [
    'maxContext with text for a number',
    () => maxContext('llama-3-8b', '5' as Any),
    'maxContext: expected memoryBytes to be a number, got string',
  ],
  [
    'grad without arguments',
    () => (grad(sum) as Any)(),
    'grad: expected argnums below the 0 arguments, got 0',
  ],
  ['planKvCache', () => planKvCache(none), 'expected a shape, a config or the id of a preset, got undefined'],
])('%s', (_, call, message) => {
  expect(call).toThrow(message);
});

test.each<[string, () => Promise<unknown>, string]>([
  [
    'generate',
    () => next(none),
    'generate: expected a prompt of token ids, got undefined; model.tokenizer.encode(text) gives them',
  ],
  [
    'generate with what was not awaited',
    () => generate(Promise.resolve(model) as Any, [1]).next(),
    'generate: expected a model, such as loadModel gives, got Promise; await it',
  ],
  ['generate with null', () => next([1], null), 'generate: expected an object of options, got null'],
  [
    'generate with text for a count',
    () => next([1], { maxNewTokens: '3' }),
    'generate: expected maxNewTokens to be a non-negative integer, got string',
  ],
  [
    'generate with a cache of another kind',
    () => next([1], { cache: {} }),
    'generate: expected cache to be a KeyValueCache, got Object',
  ],
  ['generate a text', () => next('hello'), 'generate: expected a prompt of token ids, got string'],
  [
    'generate with stop',
    () => next([1], { stop: 3 }),
    'generate: expected stop as an array of token ids and strings, got 3',
  ],
  [
    'generate with signal',
    () => next([1], { signal: 5 }),
    'generate: expected signal to be an AbortSignal, got 5',
  ],
  [
    'generate with text for a number',
    () => next([1], { temperature: '1' }),
    'generate: expected temperature to be a number, got string',
  ],
  [
    'loadModel on an unknown backend',
    () => loadModel('x', { backend: 'gpu' as Any }),
    'loadModel: expected one of native, wasm, reference, got "gpu"',
  ],
  [
    'loadModel',
    () => loadModel(none),
    'loadModel: expected a path, an address, Files, a Blob, a folder, a handle or bytes, got undefined',
  ],
  [
    'loadModel of nothing',
    () => loadModel(''),
    'loadModel: expected a path, an address, Files, a Blob, a folder, a handle or bytes, got an empty',
  ],
  [
    'loadModel with a name in place of options',
    () => loadModel('x', 'wasm' as Any),
    'loadModel: expected an object of options, got string',
  ],
  ['saveModule', () => saveModule(none, none), 'saveModule: expected a path first, got undefined'],
  ['loadModule', () => loadModule('x', none), 'loadModule: expected a module second, got undefined'],
  ['measureDrift', () => measureDrift(none), 'measureDrift: expected an object of options, got undefined'],
  [
    'uptrain without a text',
    () => uptrain({ from: 'x' } as Any),
    'uptrain: expected text to be a string, got undefined',
  ],
  [
    'readModelShape',
    () => readModelShape(none),
    'readModelShape: expected a path, a URL, a Blob or a byte source, got undefined',
  ],
  [
    'convertCheckpoint',
    () => convertCheckpoint({} as Any),
    'convertCheckpoint: expected from to be a path, got undefined',
  ],
  [
    'convertCheckpoint into nothing',
    () => convertCheckpoint({ from: 'x', to: '', numKeyValueHeads: 1 }),
    'convertCheckpoint: expected to to be a path, got an empty string',
  ],
  [
    'convertCheckpoint to text',
    () => convertCheckpoint({ from: 'x', to: 'y', numKeyValueHeads: '1' as Any }),
    'convertCheckpoint: expected numKeyValueHeads to be a positive integer, got string',
  ],
])('%s', async (_, call, message) => {
  await expect(call()).rejects.toThrow(message);
});

const x = () => zeros([2, 2, 2, 4]);
const table = () => zeros([2, 2, 2]);

/**
 * As JAX, NumPy and PyTorch take them: by position. Taken for no options at all, they would give other
 * numbers in silence.
 */
test.each<[string, (options: Any) => unknown, Any]>([
  ['softmax', (axis) => softmax(x(), axis), 0],
  ['logSoftmax', (axis) => logSoftmax(x(), axis), 0],
  ['sum', (axis) => sum(x(), axis), 0],
  ['mean', (axis) => mean(x(), axis), [0]],
  ['max', (axis) => max(x(), axis), -1],
  ['min', (axis) => min(x(), axis), -1],
  ['rmsNorm', (eps) => rmsNorm(x(), undefined, eps), 1e-5],
  ['layerNorm', (eps) => layerNorm(x(), undefined, undefined, eps), 1e-5],
  ['gelu', (approximate) => gelu(x(), approximate), true],
  ['rope', (interleaved) => rope(x(), table(), table(), interleaved), true],
  ['matmul', (transpose) => matmul(x(), x(), transpose), true],
  ['tensor', (dtype) => tensor([1], dtype), 'f16'],
  ['zeros', (dtype) => zeros([1], dtype), 'f16'],
  ['full', (dtype) => full([1], 1, dtype), 'f16'],
  ['arange', (dtype) => arange(3, dtype), 'i32'],
  ['dotProductAttention', (mask) => dotProductAttention(x(), x(), x(), mask), true],
  ['dotProductAttention', (mask) => nnAttention(x(), x(), x(), mask), null],
  ['dotProductAttentionWeights', (mask) => dotProductAttentionWeights(x(), x(), mask), true],
  ['makeAttentionMask', (fn) => makeAttentionMask(x(), x(), fn), mul],
  ['makeCausalMask', (dims) => makeCausalMask(x(), dims), 1],
  ['uniform', (low) => uniform(key(0), [2], low), 0.5],
])('%s by position is refused', (name, call, given) => {
  expect(() => call(given)).toThrow(`${name}: expected an object of options, got`);
});

/** What the language says of a value of the wrong kind, which helps nobody find it. */
const RAW =
  /Cannot (read|destructure|convert|use)|is not (a function|iterable|defined)|\(reading|Class constructor/;
const ENTRIES = ['cache', 'checkpoint', 'convert', 'flax', 'models', 'nn', 'plan', 'random', 'train'];

test.each(['gqa', ...ENTRIES])(
  '%s: nothing exported answers a missing argument in raw words',
  async (entry) => {
    const exported: Record<string, Any> =
      entry === 'gqa' ? await import('../../src/index.ts') : await import(`../../src/${entry}/index.ts`);
    const raw: string[] = [];
    for (const [name, member] of Object.entries(exported)) {
      if (typeof member !== 'function') continue;
      for (const args of [[], [undefined, {}], [null], [{}], [1], ['x'], [[]]]) {
        try {
          const isClass = /^class\b/.test(Function.prototype.toString.call(member));
          await (isClass ? new member(...args) : member(...args));
        } catch (error) {
          const { message } = error as Error;
          if (RAW.test(message)) raw.push(`${name}(${JSON.stringify(args).slice(1, -1)}): ${message}`);
        }
      }
    }
    expect(raw).toEqual([]);
  },
);
