/**
 * A run of `gqa train` or `gqa uptrain` on the command line: Ctrl-C saves a checkpoint; the report shows
 * progress.
 */
import { getBackend } from '../../backend/index.ts';
import { matmulPrecision } from '../../ops/matmul-precision.ts';
import type { PreparedRun } from '../../train/prepare-run.ts';
import { computedOn, type Metric, runTraining } from '../../train/training-run.ts';
import { exitCode } from '../errors.ts';
import { untilInterrupt } from '../interrupt.ts';
import { count, writeJson, writeNote } from '../output.ts';
import type { RunFlags } from './flags.ts';
import { TrainReport } from './report.ts';

/**
 * Runs a prepared training to its end and frees its model.
 * @param title of the page
 */
export async function trainRun(title: string, run: PreparedRun, flags: RunFlags): Promise<void> {
  const { trainer, data, resumedFrom, place, metrics } = run;
  const { model } = trainer;
  const { numHeads, numKeyValueHeads, vocabSize } = model.config;
  const precision = matmulPrecision();
  const report = new TrainReport(title, run, flags);
  try {
    writeNote(
      `${resumedFrom === undefined ? 'training' : `resuming from ${resumedFrom}`}: ${count(model.parameterCount)} parameters, ` +
        `N=${numHeads} K=${numKeyValueHeads}, ${count(data.train.length)} + ${count(data.validation.length)} tokens, ` +
        `V=${vocabSize}, on ${getBackend().description}${precision === 'highest' ? '' : `, matmul precision ${precision}`}`,
    );
    const [before, now] = [place?.computedOn.at(-1), computedOn(model.backend)];
    if (before !== undefined && before !== now) {
      writeNote(
        `this run was computed on ${before} and continues on ${now}: losses may differ in their last digits from those of an uninterrupted run`,
      );
    }
    await untilInterrupt(async (signal) => {
      const onMetric = (metric: Metric) => report.onMetric(metric);
      const { evaluateEvery, saveEvery, keep } = flags;
      const options = { evaluateEvery, saveEvery, keep, onMetric, signal };
      const { finished } = await runTraining(trainer, options, place, metrics);
      await report.finish(finished);
      if (flags.json) writeJson(report.result(finished));
      if (!finished) process.exitCode = exitCode.interrupted;
    });
  } finally {
    report.stop();
    model.dispose();
  }
}
