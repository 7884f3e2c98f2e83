import { normCases, reduceCases, softmaxCases } from '../cases/reduction.ts';
import { runCases } from './run-cases.ts';

runCases(reduceCases);
runCases(softmaxCases);
runCases(normCases);
