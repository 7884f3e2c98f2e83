import { attendCases } from '../cases/attend.ts';
import { attentionCases } from '../cases/attention.ts';
import { runCases } from './run-cases.ts';

runCases(attentionCases);
runCases(attendCases);
