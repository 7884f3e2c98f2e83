// Compares the token ids of test/golden/smollm2/tokens.json with llama.cpp's own (through node-llama-cpp
// 3.22.0, which is no dependency of this repository: install it somewhere else and run this file from there).
//
// Usage: node check_tokens_llama_cpp.mjs GGUF_FILE TOKENS_JSON

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const entry = createRequire(pathToFileURL(`${process.cwd()}/`)).resolve('node-llama-cpp');
const { getLlama } = await import(pathToFileURL(entry).href);
const [modelPath, tokensPath] = process.argv.slice(2);
const golden = JSON.parse(readFileSync(tokensPath, 'utf8'));
const llama = await getLlama({ gpu: false, build: 'never' });
const model = await llama.loadModel({ modelPath, vocabOnly: true });
let different = 0;
for (const { text, ids } of [...golden.strings, ...golden.chats]) {
  const theirs = [...model.tokenize(text, true, 'trimLeadingSpace')];
  if (JSON.stringify(theirs) === JSON.stringify(ids)) continue;
  different++;
  console.log(`${JSON.stringify(text)}\n  golden    ${ids}\n  llama.cpp ${theirs}`);
}
console.log(`${golden.strings.length + golden.chats.length} texts, ${different} different`);
process.exit(different === 0 ? 0 : 1);
