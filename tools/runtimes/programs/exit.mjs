// Ends the process while threads compute, with code 3.
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { getBackend, matmul, ones } from 'gqa';

const x = ones([256, 256]);
const multiply = async () => (await matmul(x, x).data())[0];
if (isMainThread) {
  const workers = [0, 1].map(() => new Worker(new URL(import.meta.url)));
  await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))));
  await multiply();
  process.stdout.write(JSON.stringify({ backend: getBackend().name }), () => {
    matmul(x, x);
    process.exit(3);
  });
} else for (;;) parentPort.postMessage(await multiply());
