import { generate, loadModel, StreamingDecoder } from 'gqa/models';

const model = await loadModel(process.argv[2] ?? 'model.gguf'); // or a Hugging Face directory
const { numHeads, numKeyValueHeads, headDim } = model.config;
console.log(`N=${numHeads} query heads on K=${numKeyValueHeads} key/value heads of H=${headDim}`);

const tokenizer = model.tokenizer;
if (!tokenizer) throw new Error('this checkpoint has no tokenizer');
const messages = [{ role: 'user', content: 'What is the capital of France?' }];
const prompt = tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true });

const text = new StreamingDecoder(tokenizer);
const tokens = tokenizer.encode(prompt, { addSpecialTokens: false });
for await (const token of generate(model, tokens, { maxNewTokens: 40 }))
  process.stdout.write(text.push(token));
console.log(text.flush());
