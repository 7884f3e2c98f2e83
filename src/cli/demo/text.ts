/** The text that `gqa demo` prints at its end: the table and a one-sentence conclusion. */

import { binarySize, count, percent } from '../output.ts';
import { table } from '../table.ts';
import type { DemoConversion, DemoResult } from './result.ts';

/** The table's cells, header first, for the terminal and the page. */
export function demoRows({ original, converted }: DemoResult): string[][] {
  const { numKeyValueHeads: N, loss, kvBytesPerToken, decodeTokensPerSecond } = original;
  return [
    ['K', 'loss before', 'converted', 'distilled', 'KV bytes/token', 'decode tokens/s'],
    [`${N}`, loss.toFixed(3), '', '', count(kvBytesPerToken), count(Math.round(decodeTokensPerSecond))],
    ...converted.map((model) => [
      `${model.numKeyValueHeads}`,
      loss.toFixed(3),
      model.loss.converted.toFixed(3),
      model.loss.distilled.toFixed(3),
      count(model.kvBytesPerToken),
      count(Math.round(model.decodeTokensPerSecond)),
    ]),
  ];
}

export function demoTable(result: DemoResult): string {
  const [head, ...rows] = demoRows(result);
  return table(head, rows, [0, 1, 2, 3, 4, 5]);
}

/** How the table was measured. */
export function demoNote({ validationTokens, decode, backend }: DemoResult): string {
  return `Loss: nats per character, on ${count(validationTokens)} held-out characters. Decode: batch of ${decode.batchSize}, ${decode.contextLength} characters cached per text; ${backend}.`;
}

/** The one-sentence conclusion. */
export function demoSentence({ original, converted, distillation }: DemoResult): string {
  const both = (text: (model: DemoConversion) => string) => converted.map(text).join(' and ');
  const cache = both((model) => fraction(original.kvBytesPerToken / model.kvBytesPerToken));
  const speed = both((model) => (model.decodeTokensPerSecond / original.decodeTokensPerSecond).toFixed(1));
  const cost = both(({ loss }) => signed(loss.distilled - original.loss));
  const recovered = both(({ loss }) => recoveredShare(original.loss, loss.converted, loss.distilled));
  const { steps, finalSteps } = distillation;
  return (
    `You saw a multi-head model become a grouped-query one (K=2) and a multi-query one (K=1): ${cache} of its KV cache, ` +
    `${speed} times its decode speed, ${cost} nats of loss. Distillation (${count(steps)} steps for each layer, ` +
    `${count(finalSteps)} for all together) recovered ${recovered} of the loss that conversion had added.`
  );
}

function fraction(times: number): string {
  return `1/${Number(times.toFixed(1))}`;
}

function signed(nats: number): string {
  return `${nats < 0 ? '-' : '+'}${Math.abs(nats).toFixed(3)}`;
}

function recoveredShare(before: number, converted: number, distilled: number): string {
  const cost = converted - before;
  return cost <= 0.0005 ? 'nothing' : percent((converted - distilled) / cost);
}

/** Commands to try next. @param out the demo's folder */
export function demoCommands(out: string, { original }: DemoResult): readonly string[] {
  return [
    `npx gqa generate ${out}/k2 --prompt "Call me" --temperature 0.6`,
    `npx gqa eval ${out}/k1 --data ${out}/held-out.txt`,
    `npx gqa uptrain ${out}/k1 --data ${out}/moby-dick.txt --out more`,
    `npx gqa convert ${out}/${original.checkpoint} k3 --kv-heads 3`,
  ];
}

/** Bytes of all sequences' caches while decoding: `24.0 MiB`. */
export function cacheSize({ decode }: DemoResult, kvBytesPerToken: number): string {
  return binarySize(kvBytesPerToken * decode.batchSize * decode.contextLength);
}
