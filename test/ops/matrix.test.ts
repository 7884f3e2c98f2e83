import { embeddingCases, linearCases, matmulCases, ropeCases } from '../cases/matrix.ts';
import { runCases } from './run-cases.ts';

runCases(matmulCases);
runCases(linearCases);
runCases(embeddingCases);
runCases(ropeCases);
