/**
 * Tokens per second of `generateBatch` against one prompt after the other: `node bench/batch.mjs MODEL [PROMPTS]
 * [TOKENS] [ROUNDS]`; by default 16 ragged prompts, 64 tokens each, 3 rounds, in turns. Prints wall and
 * processor time of each round and the ratio of the medians.
 */
import { generate, generateBatch, loadModel } from '../dist/models/index.js';
import { median } from './stats.mjs';

const [path, prompts = '16', tokens = '64', rounds = '3'] = process.argv.slice(2);
const model = await loadModel(path);
const { vocabSize } = model.config;
const list = Array.from({ length: Number(prompts) }, (_, i) =>
  Array.from({ length: 4 + ((i * 7) % 29) }, (_, t) => (i * 7919 + t * 104729) % vocabSize),
);
const options = { maxNewTokens: Number(tokens), stop: [] };
const ways = {
  'one after the other': async () => {
    const answers = [];
    for (const prompt of list) {
      const answer = [];
      for await (const token of generate(model, prompt, options)) answer.push(token);
      answers.push(answer);
    }
    return answers;
  },
  batch: async () => (await generateBatch(model, list, options)).map(([{ tokens }]) => tokens),
};
const times = Object.fromEntries(Object.keys(ways).map((name) => [name, []]));
const answers = {};
for (let round = 0; round < Number(rounds); round++) {
  for (const [name, run] of Object.entries(ways)) {
    const [cpu, start] = [process.cpuUsage(), performance.now()];
    answers[name] = await run();
    const wall = performance.now() - start;
    const { user, system } = process.cpuUsage(cpu);
    times[name].push({ wall, cpu: (user + system) / 1000 });
    const rate = (list.length * Number(tokens) * 1000) / wall;
    console.log(
      `${name}: ${rate.toFixed(1)} tokens/s, ${wall.toFixed(0)} ms, processor ${((user + system) / 1000).toFixed(0)} ms`,
    );
  }
}
const [alone, batch] = Object.values(times);
const ratio = (key) => median(alone.map((time) => time[key])) / median(batch.map((time) => time[key]));
console.log(
  `batch is ${ratio('wall').toFixed(2)} times as fast, with 1/${ratio('cpu').toFixed(2)} of the processor time`,
);
const [one, together] = Object.values(answers);
const same = one.filter((answer, i) => answer.join() === together[i].join()).length;
console.log(`${same} of ${list.length} answers the same`);
model.dispose();
