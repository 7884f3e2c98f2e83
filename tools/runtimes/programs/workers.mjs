// Computes in several threads at once. Some end by themselves, some are stopped while they compute, and some
// start meanwhile.
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { dotProductAttention, getBackend, ones } from 'gqa';

async function compute(rounds) {
  let sum = 0;
  for (let i = 0; i < rounds; i++) {
    const x = ones([1, 64, 8, 32]);
    sum += (await dotProductAttention(x, x, x, { isCausal: true }).data())[0];
  }
  return sum;
}
const start = (rounds) => new Worker(new URL(import.meta.url), { workerData: rounds });
const resultOf = (worker) =>
  new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));

if (isMainThread) {
  const results = [start(200), start(200)].map(resultOf);
  const endless = [start(1e9), start(1e9)];
  await compute(100);
  results.push(...[start(100), start(100)].map(resultOf));
  await Promise.all(endless.map((worker) => worker.terminate()));
  results.push(compute(100));
  console.log(JSON.stringify({ backend: getBackend().name, sums: await Promise.all(results) }));
} else parentPort.postMessage(await compute(workerData));
