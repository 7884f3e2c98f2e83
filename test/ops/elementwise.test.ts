import { binaryCases, dropoutCases, gatedCases, unaryCases } from '../cases/elementwise.ts';
import { runCases } from './run-cases.ts';

runCases(unaryCases);
runCases(binaryCases);
runCases(gatedCases);
runCases(dropoutCases);
