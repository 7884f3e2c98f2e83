/**
 * Prints the last line of a CI run from vitest's JSON report: `N passed, N failed`, and `, N skipped` when
 * there are any. A file that failed before its tests ran counts as one failed test.
 *
 * Usage: node scripts/test-summary.mjs <report.json>
 */
import { readFileSync } from 'node:fs';

const report = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const broken = report.testResults.filter(
  (file) => file.status === 'failed' && file.assertionResults.length === 0,
);
const skipped = report.numPendingTests + report.numTodoTests;
const failed = report.numFailedTests + broken.length;
console.log(`${report.numPassedTests} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
