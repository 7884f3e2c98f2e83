import { castCases, layoutCases } from '../cases/layout.ts';
import { runCases } from './run-cases.ts';

runCases(layoutCases);
runCases(castCases);
