/** A run of `gqa train` or `gqa uptrain` on the command line: Ctrl-C saves, the report shows it. */
import { getBackend } from '../../backend/index.ts';
import { computedOn, type PreparedRun, runTraining } from '../../train/training-run.ts';
import { count, writeJson, writeNote } from '../output.ts';
import type { RunFlags } from './flags.ts';
import { TrainReport } from './report.ts';

/**
 * Runs what is prepared to its end, and frees its model.
 * @param title of the page
 * @returns false when it was stopped by Ctrl-C
 */
export async function trainRun(title: string, run: PreparedRun, flags: RunFlags): Promise<boolean> {
  const { trainer, data, resumedFrom, place, metrics } = run;
  const { model } = trainer;
  const { numHeads, numKeyValueHeads, vocabSize } = model.config;
  const stopping = new AbortController();
  // A second Ctrl-C ends the process at once.
  const stop = () => stopping.abort();
  const report = new TrainReport(title, run, flags);
  try {
    writeNote(
      `${resumedFrom === undefined ? 'training' : `going on from ${resumedFrom}`}: ${count(model.parameterCount)} parameters, ` +
        `N=${numHeads} K=${numKeyValueHeads}, ${count(data.train.length)} + ${count(data.validation.length)} tokens, ` +
        `V=${vocabSize}, on ${getBackend().description}`,
    );
    const [before, now] = [place?.computedOn.at(-1), computedOn(model.backend)];
    if (before !== undefined && before !== now) {
      writeNote(
        `this run was computed on ${before} and goes on on ${now}: losses may differ in their last digits from those of a run without a break`,
      );
    }
    process.once('SIGINT', stop);
    const { finished } = await runTraining(
      trainer,
      {
        evaluateEvery: flags.evalEvery,
        saveEvery: flags.saveEvery,
        keep: flags.keep,
        onMetric: (metric) => report.heard(metric),
        signal: stopping.signal,
      },
      place,
      metrics,
    );
    await report.finish(finished);
    if (flags.json) writeJson(report.result(finished));
    return finished;
  } finally {
    process.off('SIGINT', stop);
    report.stop();
    model.dispose();
  }
}
