/** `gqa convert --target` and `--kv-bytes`: tries numbers of key/value heads, and prints them. */
import {
  type ChooseKeyValueHeadsOptions,
  chooseKeyValueHeads,
  type KeyValueHeadsChoice,
} from '../convert/choose-key-value-heads.ts';
import { unlessInterrupted } from './interrupt.ts';
import { count, exactSize, writeResult } from './output.ts';
import { withProgress } from './progress.ts';
import { table } from './table.ts';

/**
 * @param json whether to print nothing
 * @returns undefined after Ctrl-C
 * @throws Error where no fewer heads than the model's own keep to the target, besides the errors of
 * `chooseKeyValueHeads`
 */
export async function chooseHeads(
  options: ChooseKeyValueHeadsOptions,
  json: boolean = false,
): Promise<KeyValueHeadsChoice | undefined> {
  const choice = await unlessInterrupted((signal) =>
    withProgress('trying', `trying numbers of key/value heads of ${options.from}`, (onProgress) =>
      chooseKeyValueHeads({ ...options, signal, onProgress }),
    ),
  );
  if (choice === undefined) return undefined;
  const { numKeyValueHeads: K, trials } = choice;
  const { target, keyValueBytes = 0 } = options;
  const own = trials[trials.length - 1].numKeyValueHeads;
  if (!json) {
    const why =
      target === undefined
        ? `most heads within ${exactSize(keyValueBytes)} per token`
        : `fewest heads within ${target} nats`;
    const rows = trials.map((trial) => [
      `${trial.numKeyValueHeads}`,
      count(trial.keyValueBytes),
      ...[trial.loss, trial.above].map((nats) => nats.toFixed(3)),
      trial.numKeyValueHeads === own ? "the model's own" : trial.numKeyValueHeads === K ? why : '',
    ]);
    writeResult(
      `${table(['K', 'KV bytes/token', 'loss (nats)', 'above original', ''], rows, [0, 1, 2, 3])}\n`,
    );
  }
  if (K < own) return choice;
  const least = Math.min(...trials.slice(0, -1).map(({ above }) => above));
  throw new Error(
    `expected a --target that fewer heads than the model's K=${own} keep to before any training, got ${target} nats, below their ${least.toFixed(3)}; --kv-heads takes any`,
  );
}
