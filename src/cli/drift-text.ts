/** The drift report as text for the terminal. */
import { CALIBRATION_TEXT, worstLayers } from '../convert/drift.ts';
import type { AnswerDrift, DriftReport } from '../convert/index.ts';
import { count } from './output.ts';
import { facts, table } from './table.ts';

export function driftText(drift: DriftReport): string {
  const { before, after, kl, topOneAgreement, predicted, layers, text, texts, answers } = drift;
  const sums = [
    ['perplexity', before.perplexity.toFixed(3), after.perplexity.toFixed(3)],
    ['loss (nats)', before.loss.toFixed(4), after.loss.toFixed(4)],
    ['KL (nats)', '', kl.toFixed(4)],
    ['same top-1', '', `${(100 * topOneAgreement).toFixed(1)} %`],
    ['predicted tokens', '', count(predicted)],
  ];
  const hasTexts = Object.keys(texts).length > 0;
  const tables = [table([hasTexts ? 'all texts' : '', 'before', 'after'], sums, [1, 2])];
  if (hasTexts) {
    const each = Object.entries({ ...(text && { [CALIBRATION_TEXT]: text }), ...texts });
    const rows = each.map(([name, { before, after, kl }]) => [
      name,
      ...[before.loss, after.loss, after.loss - before.loss, kl].map((value) => value.toFixed(3)),
    ]);
    tables.push(table(['loss (nats)', 'before', 'after', 'difference', 'KL'], rows, [1, 2, 3, 4]));
  }
  if (answers) tables.push(table(['writing', 'before', 'after'], answerRows(answers), [1, 2]));
  const layerHead = ['layer', 'K error', 'V error', 'output error', 'groups'];
  const rows = layers.map(({ key, value, attentionOutput, groups }, i) => [
    `${i}`,
    ...[key, value, attentionOutput].map((error) => error.toFixed(4)),
    groups.map((group) => group.join('+')).join(' '),
  ]);
  tables.push(table(layerHead, rows, [1, 2, 3]));
  tables.push(facts([['largest output errors', worstLayers(layers)]]));
  return tables.join('\n\n');
}

function answerRows({ generation, cloze }: AnswerDrift): string[][] {
  const both = (measure: { readonly before: number; readonly after: number }) => [
    `${(100 * measure.before).toFixed(1)} %`,
    `${(100 * measure.after).toFixed(1)} %`,
  ];
  return [
    [`same first tokens, ${generation.prompts} prompts`, '', `${generation.agreement.toFixed(1)} of 32`],
    ['repeated 4-grams', ...both(generation.repetition)],
    ...(cloze.questions === 0
      ? []
      : [[`last words found, ${cloze.questions} sentences`, ...both(cloze.accuracy)]]),
  ];
}
