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
 * @throws Error where no fewer heads than the model's own keep to the target, or more bytes than its own fit
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
  const limit = target === undefined ? `${exactSize(keyValueBytes)} per token` : `${target} nats`;
  if (!json) {
    const why = `${target === undefined ? 'most' : 'fewest'} heads within ${limit}`;
    const rows = trials.map((trial) => [
      `${trial.numKeyValueHeads}`,
      count(trial.keyValueBytes),
      ...[trial.loss, trial.above].map((nats) => nats.toFixed(3)),
      trial.numKeyValueHeads === K ? why : '',
    ]);
    writeResult(
      `${table(['K', 'KV bytes/token', 'loss (nats)', 'above original', ''], rows, [0, 1, 2, 3])}\n`,
    );
  }
  const own = trials[trials.length - 1];
  if (K < own.numKeyValueHeads) return choice;
  throw new Error(
    target === undefined
      ? `expected --kv-bytes below the ${exactSize(own.keyValueBytes)} of the model's own K=${K}, got ${limit}`
      : `expected a --target that fewer heads than the model's K=${K} keep to before any training, got ${limit}; --kv-heads takes any`,
  );
}
