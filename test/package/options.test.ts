/**
 * Every options object of the public API, found by the compiler: an unknown option must be refused by name.
 * Each function with options has a row here; a test checks that none is missing.
 */
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { expect, test } from 'vitest';
import * as caches from '../../src/cache/index.ts';
import * as checkpoint from '../../src/checkpoint/index.ts';
import * as convert from '../../src/convert/index.ts';
import * as gqa from '../../src/index.ts';
import * as models from '../../src/models/index.ts';
import { StreamingDecoder } from '../../src/models/index.ts';
import * as nn from '../../src/nn/index.ts';
import * as plan from '../../src/plan/index.ts';
import * as random from '../../src/random/index.ts';
import { characterTokenizerJson } from '../../src/text/character-tokenizer.ts';
import { tokenizerFromJson } from '../../src/text/tokenizer.ts';
import * as train from '../../src/train/index.ts';

// biome-ignore lint/suspicious/noExplicitAny: these calls are what the types forbid
type Any = any;
type Call = (unknown: Any) => unknown;

const rngs = () => new nn.Rngs(0);
const x = () => gqa.zeros([1, 2, 4]);
const heads = () => gqa.zeros([1, 2, 2, 4]);
const model = () =>
  train.createModel(train.llamaConfig({ vocabSize: 9, hiddenSize: 8, numLayers: 1, numHeads: 2 }));
const talk = () => {
  const withTokenizer = Object.defineProperty(model(), 'tokenizer', { value: tokenizer() });
  return models.chat(withTokenizer as Any, { template: '{{ messages }}' });
};
const tokenizer = () => tokenizerFromJson(characterTokenizerJson('abc'));
const layers = [{ numKeyValueHeads: 1, headDim: 4 }];
const memory = () => ({ backend: gqa.getBackend(), layers });
const sizes = { batchSize: 1, maxLength: 4 };
const latent = { kvLoraRank: 4, qkNopeHeadDim: 2, qkRopeHeadDim: 2, vHeadDim: 4 };
const mha = () => new nn.MultiHeadAttention({ numHeads: 2, inFeatures: 4, decode: false, rngs: rngs() });
const mla = () =>
  new nn.MultiHeadLatentAttention({ hiddenSize: 4, numAttentionHeads: 2, ...latent, rngs: rngs() });
const tokens = Int32Array.from({ length: 60 }, (_, i) => i % 9);
const run = { batchSize: 1, blockLength: 4, steps: 1, learningRate: 1 };

/**
 * Entry, export, and which argument, as the compiler's list below names them. Each call is right but for what
 * is unknown.
 */
const CALLS: Readonly<Record<string, Call>> = {
  'gqa:arange#1': (o) => gqa.arange(3, o),
  'gqa:arange#2': (o) => (gqa.arange as Any)(0, 3, o),
  'gqa:arange#3': (o) => gqa.arange(0, 3, 1, o),
  'gqa:argmax#1': (o) => gqa.argmax(x(), o),
  'gqa:attend#2': (o) => gqa.attend(heads(), { rows: [] } as Any, o),
  'gqa:dotProductAttention#3': (o) => gqa.dotProductAttention(heads(), heads(), heads(), o),
  'gqa:dotProductAttentionWeights#2': (o) => gqa.dotProductAttentionWeights(heads(), heads(), o),
  'gqa:full#2': (o) => gqa.full([1], 1, o),
  'gqa:gelu#1': (o) => gqa.gelu(x(), o),
  'gqa:layerNorm#3': (o) => gqa.layerNorm(x(), undefined, undefined, o),
  'gqa:logSoftmax#1': (o) => gqa.logSoftmax(x(), o),
  'gqa:matmul#2': (o) => gqa.matmul(x(), x(), { transposeB: true, ...o }),
  'gqa:max#1': (o) => gqa.max(x(), o),
  'gqa:mean#1': (o) => gqa.mean(x(), o),
  'gqa:min#1': (o) => gqa.min(x(), o),
  'gqa:ones#1': (o) => gqa.ones([1], o),
  'gqa:rmsNorm#2': (o) => gqa.rmsNorm(x(), undefined, o),
  'gqa:rope#3': (o) => gqa.rope(heads(), gqa.zeros([2, 2]), gqa.zeros([2, 2]), o),
  'gqa:softmax#1': (o) => gqa.softmax(x(), o),
  'gqa:sum#1': (o) => gqa.sum(x(), o),
  'gqa:tensor#1': (o) => gqa.tensor([1], o),
  'gqa:zeros#1': (o) => gqa.zeros([1], o),
  'cache:new BlockPool#0': (o) => new caches.BlockPool({ ...memory(), numBlocks: 1, ...o }),
  'cache:new PagedCache#0': (o) =>
    new caches.PagedCache({ pool: new caches.BlockPool({ ...memory(), numBlocks: 1 }), ...sizes, ...o }),
  'cache:new StaticCache#0': (o) => new caches.StaticCache({ ...memory(), ...sizes, ...o }),
  'cache:new WindowCache#0': (o) => new caches.WindowCache({ ...memory(), ...sizes, ...o }),
  'checkpoint:loadTensor#2': (o) => checkpoint.loadTensor({ tensor: () => ({}) } as Any, 'x', o),
  'checkpoint:MemoryFolder.replace#2': (o) => new checkpoint.MemoryFolder().replace('a', async () => {}, o),
  'checkpoint:loadTensorAsync#2': (o) => checkpoint.loadTensorAsync({ tensor: () => ({}) } as Any, 'x', o),
  'checkpoint:openCheckpoint#1': (o) => checkpoint.openCheckpoint('/nowhere', o),
  'checkpoint:writeGguf#3': (o) => checkpoint.writeGguf('/nowhere/x.gguf', new Map(), new Map(), o),
  'checkpoint:writeSafetensors#2': (o) => checkpoint.writeSafetensors('/nowhere/x.safetensors', {}, o),
  'convert:chooseKeyValueHeads#0': (o) =>
    convert.chooseKeyValueHeads({ from: 'x', calibration: 'y', text: 'z', target: 1, ...o }),
  'convert:convertCheckpoint#0': (o) =>
    convert.convertCheckpoint({ from: 'x', to: 'y', numKeyValueHeads: 1, ...o }),
  'convert:measureDrift#0': (o) =>
    convert.measureDrift({ from: 'x', to: 'y', text: 'z', result: { layers: [] } as Any, ...o }),
  'models:Model.forward#1': (o) => model().forward([[1]], o),
  'models:Model.initCache#0': (o) => model().initCache({ ...sizes, ...o }),
  'models:Tokenizer.applyChatTemplate#1': (o) => tokenizer().applyChatTemplate([], o),
  'models:Tokenizer.decode#1': (o) => tokenizer().decode([0], o),
  'models:Tokenizer.encode#1': (o) => tokenizer().encode('a', o),
  'models:chat#1': (o) => models.chat(model(), o),
  'models:Chat.save#1': (o) => talk().save('/nowhere', o),
  'models:Chat.send#1': (o) => talk().send('a', o).next(),
  'models:embed#2': (o) => models.embed(model(), ['a'], o),
  'models:generate#2': (o) => models.generate(model(), [1], o).next(),
  'models:generateBatch#2': (o) => models.generateBatch(model(), [[1]], o),
  'models:generateText#2': (o) => models.generateText(model(), 'a', o).next(),
  'models:loadChat#2': (o) => models.loadChat(model(), '/nowhere', o),
  'models:saveModel#2': (o) => models.saveModel('/nowhere', model(), o),
  'models:loadModel#1': (o) => models.loadModel('/nowhere', o),
  'models:new StreamingDecoder#1': (o) => new StreamingDecoder(tokenizer(), o),
  'nn:new Dropout#0': (o) => new nn.Dropout({ rate: 0.5, ...o }),
  'nn:new Embed#0': (o) => new nn.Embed({ numEmbeddings: 2, features: 2, rngs: rngs(), ...o }),
  'nn:new GroupedQueryAttention#0': (o) =>
    new nn.GroupedQueryAttention({ dim: 4, numHeads: 2, rngs: rngs(), ...o }),
  'nn:new LayerNorm#0': (o) => new nn.LayerNorm({ numFeatures: 2, rngs: rngs(), ...o }),
  'nn:new Linear#0': (o) => new nn.Linear({ inFeatures: 2, outFeatures: 2, rngs: rngs(), ...o }),
  'nn:new LinearGeneral#0': (o) =>
    new nn.LinearGeneral({ inFeatures: 2, outFeatures: 2, rngs: rngs(), ...o }),
  'nn:new MultiHeadAttention#0': (o) =>
    new nn.MultiHeadAttention({ numHeads: 2, inFeatures: 4, decode: false, rngs: rngs(), ...o }),
  'nn:new MultiHeadLatentAttention#0': (o) =>
    new nn.MultiHeadLatentAttention({ hiddenSize: 4, numAttentionHeads: 2, ...latent, rngs: rngs(), ...o }),
  'nn:new RMSNorm#0': (o) => new nn.RMSNorm({ numFeatures: 2, rngs: rngs(), ...o }),
  'nn:new RoPE#0': (o) => new nn.RoPE(o),
  'nn:Dropout.forward#1': (o) => new nn.Dropout({ rate: 0.5, deterministic: true }).forward(x(), o),
  'nn:Module.setView#0': (o) => mha().setView(o),
  'nn:MultiHeadAttention.forward#3': (o) => mha().forward(x(), undefined, undefined, o),
  'nn:MultiHeadAttention.attentionFn#3': (o) => mha().attentionFn(heads(), heads(), heads(), o),
  'nn:MultiHeadLatentAttention.forward#1': (o) => mla().forward(x(), o),
  'nn:dotProductAttention#3': (o) => nn.dotProductAttention(heads(), heads(), heads(), o),
  'nn:dotProductAttentionWeights#2': (o) => nn.dotProductAttentionWeights(heads(), heads(), o),
  'nn:initializers.glorotNormal#0': (o) => nn.initializers.glorotNormal(o),
  'nn:initializers.glorotUniform#0': (o) => nn.initializers.glorotUniform(o),
  'nn:initializers.heNormal#0': (o) => nn.initializers.heNormal(o),
  'nn:initializers.heUniform#0': (o) => nn.initializers.heUniform(o),
  'nn:initializers.kaimingNormal#0': (o) => nn.initializers.kaimingNormal(o),
  'nn:initializers.kaimingUniform#0': (o) => nn.initializers.kaimingUniform(o),
  'nn:initializers.lecunNormal#0': (o) => nn.initializers.lecunNormal(o),
  'nn:initializers.lecunUniform#0': (o) => nn.initializers.lecunUniform(o),
  'nn:initializers.xavierNormal#0': (o) => nn.initializers.xavierNormal(o),
  'nn:initializers.xavierUniform#0': (o) => nn.initializers.xavierUniform(o),
  'nn:initializers.varianceScaling#3': (o) => nn.initializers.varianceScaling(1, 'fan_in', 'normal', o),
  'nn:makeAttentionMask#2': (o) => nn.makeAttentionMask(x(), x(), o),
  'nn:makeCausalMask#1': (o) => nn.makeCausalMask(x(), o),
  'plan:compareHeads#1': (o) => plan.compareHeads('llama-3-8b', o),
  'plan:maxBatch#2': (o) => plan.maxBatch('llama-3-8b', 1e12, o),
  'plan:maxContext#2': (o) => plan.maxContext('llama-3-8b', 1e12, o),
  'plan:fitMemory#2': (o) => plan.fitMemory('llama-3-8b', 1e12, o),
  'plan:planMemory#1': (o) => plan.planMemory('llama-3-8b', o),
  'plan:planSpeed#1': (o) => plan.planSpeed('llama-3-8b', { device: { bandwidth: 1e9 }, ...(o as object) }),
  'plan:readModelWeights#1': (o) => plan.readModelWeights('/nowhere', o),
  'plan:planKvCache#1': (o) => plan.planKvCache('llama-3-8b', o),
  'random:categorical#2': (o) => random.categorical(random.key(0), x(), o),
  'random:uniform#2': (o) => random.uniform(random.key(0), [1], o),
  'train:new Trainer#2': (o) =>
    new train.Trainer(model(), train.splitTokens(tokens, 4, 0.2), { ...run, ...o }),
  'train:Trainer.advanceAsync#0': (o) =>
    new train.Trainer(model(), train.splitTokens(tokens, 4, 0.2), run).advanceAsync(o),
  'train:TrainableModel.forward#1': (o) => model().forward([[1]], o),
  'train:TrainableModel.initCache#0': (o) => model().initCache({ ...sizes, ...o }),
  'train:adamw#0': (o) => train.adamw({ learningRate: 1, ...o }),
  'train:causalLmLoss#2': (o) => train.causalLmLoss(model(), [[1, 2]], o),
  'train:cosineDecaySchedule#0': (o) => train.cosineDecaySchedule({ initValue: 1, decaySteps: 1, ...o }),
  'train:createModel#1': (o) => train.createModel(model().configJson as Any, o),
  'train:drawBatch#1': (o) =>
    train.drawBatch(tokens, { batchSize: 1, blockLength: 4, seed: 0, stream: 'train', index: 0, ...o }),
  'train:evaluateTokens#2': (o) => train.evaluateTokens(model(), tokens, { context: 4, ...o }),
  'train:linearSchedule#0': (o) =>
    train.linearSchedule({ initValue: 1, endValue: 0, transitionSteps: 1, ...o }),
  'train:llamaConfig#0': (o) =>
    train.llamaConfig({ vocabSize: 9, hiddenSize: 8, numLayers: 1, numHeads: 2, ...o }),
  'plan:readModelShape#1': (o) => plan.readModelShape('/nowhere', o),
  'train:loadTrainableModel#1': (o) => train.loadTrainableModel('/nowhere', o),
  'train:sgd#0': (o) => train.sgd({ learningRate: 1, ...o }),
  'train:uptrain#0': (o) => train.uptrain({ from: 'x', text: 'y', ...o }),
  'train:warmupCosineDecaySchedule#0': (o) =>
    train.warmupCosineDecaySchedule({ initValue: 0, peakValue: 1, warmupSteps: 1, decaySteps: 2, ...o }),
};

/** What looks like options and is none: data, views of a cache, interfaces that a program implements. */
const NOT_OPTIONS = [
  // Interfaces that are implemented, not called, by programs.
  /^(gqa:Backend|checkpoint:(Folder|DirectoryHandle|FileHandle))\./,
  /^(models|train):(Model|TrainableModel|Optimizer)\.#/,
  /\.(#\w+|applyView|backendFile)#/,
  /#\d (view|loss|cacheView|expected|parts|source|header|report|dtype|tokenizer|model|data|transformation|inner|recipe|path|place|cache|format|message): (?!View$)/,
  // A user's own model takes what it takes.
  /^train:LanguageModel\.forward#1/,
  // The same method, inherited.
  /^(nn|flax):(?!Module)\w+\.setView#0/,
];

const root = fileURLToPath(new URL('../../', import.meta.url));

/**
 * Every parameter of an exported function, constructor or method that takes an object of this package's
 * types.
 */
function parametersThatTakeObjects(): string[] {
  const { config } = ts.readConfigFile(`${root}tsconfig.json`, ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  const names = ['cache', 'checkpoint', 'convert', 'flax', 'models', 'nn', 'plan', 'random', 'train'];
  const entries = new Map([
    ['gqa', `${root}src/index.ts`],
    ...names.map((name) => [name, `${root}src/${name}/index.ts`] as const),
  ]);
  const program = ts.createProgram([...entries.values()], { ...options, noEmit: true });
  const checker = program.getTypeChecker();
  const found = new Set<string>();
  const isOurs = (symbol: ts.Symbol) =>
    (symbol.declarations ?? []).every((declaration) =>
      declaration.getSourceFile().fileName.includes('/src/'),
    );
  const takesObject = (type: ts.Type): boolean =>
    (type.isUnion() ? type.types : [type]).some((part) => {
      const isObject = (part.flags & ts.TypeFlags.Object) !== 0 || part.isIntersection();
      if (!isObject || checker.isArrayType(part) || checker.isTupleType(part)) return false;
      if (part.getCallSignatures().length > 0 || ((part.symbol?.flags ?? 0) & ts.SymbolFlags.Class) !== 0)
        return false;
      const properties = checker.getPropertiesOfType(part);
      return properties.length > 0 && properties.every(isOurs);
    });
  const look = (name: string, signatures: readonly ts.Signature[], at: ts.Node) => {
    for (const signature of signatures) {
      for (const [i, parameter] of signature.parameters.entries()) {
        const type = checker.getTypeOfSymbolAtLocation(parameter, parameter.valueDeclaration ?? at);
        if (takesObject(type)) found.add(`${name}#${i} ${parameter.name}: ${checker.typeToString(type)}`);
      }
    }
  };
  for (const [entry, file] of entries) {
    const at = program.getSourceFile(file) as ts.SourceFile;
    const methods = (name: string, type: ts.Type) => {
      for (const property of checker.getPropertiesOfType(type).filter(isOurs)) {
        const own = checker.getTypeOfSymbolAtLocation(property, at);
        look(`${entry}:${name}.${property.name.replace(/^__#\d+@/, '')}`, own.getCallSignatures(), at);
      }
    };
    const visit = (name: string, symbol: ts.Symbol): void => {
      const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
      if (target.flags & ts.SymbolFlags.ValueModule) {
        for (const inner of checker.getExportsOfModule(target)) visit(`${name}.${inner.name}`, inner);
      } else if (target.flags & ts.SymbolFlags.Value) {
        const type = checker.getTypeOfSymbolAtLocation(target, at);
        look(`${entry}:${name}`, type.getCallSignatures(), at);
        look(`${entry}:new ${name}`, type.getConstructSignatures(), at);
        for (const made of type.getConstructSignatures()) methods(name, made.getReturnType());
        // An abstract class has no signature to construct by.
        if (target.flags & ts.SymbolFlags.Class) methods(name, checker.getDeclaredTypeOfSymbol(target));
      } else if (target.flags & ts.SymbolFlags.Interface) {
        methods(name, checker.getDeclaredTypeOfSymbol(target));
      }
    };
    for (const symbol of checker.getExportsOfModule(checker.getSymbolAtLocation(at) as ts.Symbol))
      visit(symbol.name, symbol);
  }
  return [...found].filter((name) => !NOT_OPTIONS.some((pattern) => pattern.test(name)));
}

test('every options object of the public API has a row', () => {
  // `gqa:softmax#1 options: AxisOptions` -> `gqa:softmax#1`
  const found = parametersThatTakeObjects().map((parameter) => parameter.replace(/(#\d) .*/, '$1'));
  expect([...new Set(found)].sort()).toEqual(Object.keys(CALLS).sort());
}, 120_000);

test.each(Object.entries(CALLS))('%s refuses an option that it does not know', async (_name, call) => {
  await expect((async () => call({ xyzzy: 1 }))()).rejects.toThrow(
    /^[\w.]+: expected known options, got xyzzy/,
  );
  // Said to be nothing, it is a slip all the same.
  await expect((async () => call({ xyzzy: undefined }))()).rejects.toThrow('got xyzzy');
});

/** As others write them: each was computed with the default, without a word. */
test.each<[string, () => unknown, string]>([
  [
    'a bias where JAX has it',
    () => gqa.dotProductAttention(heads(), heads(), heads(), heads() as Any),
    'dotProductAttention: expected an object of options, got Tensor; did you mean { bias }, { mask } or { sinks }?',
  ],
  [
    'a bias where Flax has it',
    () => nn.dotProductAttention(heads(), heads(), heads(), heads() as Any),
    'dotProductAttention: expected an object of options, got Tensor; did you mean { bias }, { mask } or { dropoutRng }?',
  ],
  [
    'is_causal',
    () => gqa.dotProductAttention(heads(), heads(), heads(), { is_causal: true } as Any),
    'dotProductAttention: expected known options, got is_causal; did you mean isCausal?',
  ],
  [
    'causal',
    () => gqa.attend(heads(), { rows: [] } as Any, { causal: true } as Any),
    'attend: expected known options, got causal; did you mean isCausal?',
  ],
  [
    'a text that says false',
    () => gqa.dotProductAttention(heads(), heads(), heads(), { isCausal: 'false' } as Any),
    'dotProductAttention: expected isCausal to be a boolean, got string',
  ],
  [
    'dropout_rate',
    () => new nn.MultiHeadAttention({ numHeads: 2, inFeatures: 4, dropout_rate: 0.9, rngs: rngs() } as Any),
    'MultiHeadAttention: expected known options, got dropout_rate; did you mean dropoutRate?',
  ],
  [
    'num_kv_heads',
    () => new nn.GroupedQueryAttention({ dim: 4, numHeads: 2, num_kv_heads: 1, rngs: rngs() } as Any),
    'GroupedQueryAttention: expected known options, got num_kv_heads; did you mean numKeyValueHeads?',
  ],
  [
    'a dtype that is none',
    () => new nn.Linear({ inFeatures: 2, outFeatures: 2, dtype: 'float32' as Any, rngs: rngs() }),
    'Linear: expected dtype to be one of f64, f32, f16',
  ],
  [
    'a layer of a cache',
    () => new caches.StaticCache({ ...memory(), ...sizes, layers: [{ ...layers[0], windowSize: 4 } as Any] }),
    'StaticCache: expected known options, got windowSize; did you mean window?',
  ],
  [
    'add_generation_prompt',
    () => tokenizer().applyChatTemplate([], { add_generation_prompt: true } as Any),
    'applyChatTemplate: expected known options, got add_generation_prompt; did you mean addGenerationPrompt?',
  ],
  [
    'addGenerationPrompt as text',
    () => tokenizer().applyChatTemplate([], { addGenerationPrompt: 'false' as Any }),
    'applyChatTemplate: expected addGenerationPrompt to be a boolean, got string',
  ],
  [
    'what maxContext is asked for',
    () => plan.maxContext('llama-3-8b', 1e12, { contextLength: 4 } as Any),
    'maxContext: expected known options, got contextLength',
  ],
  [
    'the optimiser of a model without parameters',
    () => new train.Optimizer({ forward() {} } as Any, train.sgd({ learningRate: 1 })),
    'expected a module or a model, got Object; loadTrainableModel (gqa/train) gives a model with parameters',
  ],
  [
    'the gradient of a model without parameters',
    () => gqa.grad((_model: object) => gqa.ones([]))({ forward() {} }),
    'in argument 0, got none; loadTrainableModel (gqa/train) gives a model with parameters',
  ],
])('%s', (_, call, message) => {
  expect(call).toThrow(TypeError);
  expect(call).toThrow(message);
});

test.each(['topK', 'topP', 'minP', 'typicalP'])('generate with %s and no temperature', async (name) => {
  const options = { [name]: 1 };
  await expect(models.generate(model(), [1], options).next()).rejects.toThrow(
    `generate: expected a temperature beside ${name}, got none`,
  );
  // Said, 0 takes the likeliest token whatever else is given.
  const [{ value }, { value: likeliest }] = await Promise.all([
    models.generate(model(), [1], { ...options, temperature: 0 }).next(),
    models.generate(model(), [1]).next(),
  ]);
  expect(value).toBe(likeliest);
});
