import { chat, loadModel } from 'gqa/models';

const model = await loadModel(process.argv[2] ?? 'model.gguf'); // a path, an address, or org/name of the hub
const { numHeads, numKeyValueHeads, headDim } = model.config;
console.log(`N=${numHeads} query heads on K=${numKeyValueHeads} key/value heads of H=${headDim}`);

const talk = chat(model, { maxNewTokens: 40 });
for await (const piece of talk.send('What is the capital of France?')) process.stdout.write(piece);
