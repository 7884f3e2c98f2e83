import { attendCases } from '../cases/attend.ts';
import { attentionCases } from '../cases/attention.ts';
import { attentionWeightsCases } from '../cases/attention-weights.ts';
import { runCases } from './run-cases.ts';

runCases(attentionCases);
runCases(attendCases);
runCases(attentionWeightsCases);
