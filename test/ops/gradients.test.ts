/** Gradients of all differentiable ops but attention, from the op cases. */
import { binaryCases, dropoutCases, gatedCases, unaryCases } from '../cases/elementwise.ts';
import { layoutCases } from '../cases/layout.ts';
import { embeddingCases, linearCases, matmulCases, ropeCases } from '../cases/matrix.ts';
import { normCases, reduceCases, softmaxCases } from '../cases/reduction.ts';
import { runGradients } from './run-gradients.ts';

/** Kinks closer than the step, overflow, and curvature far above it: differences say nothing there. */
const awkward = ({ name }: { name: string }) => /edges|NaN|Infinity|(max|min) long|Norm zeros/.test(name);

runGradients(unaryCases, { without: awkward });
runGradients(binaryCases, { without: awkward });
runGradients(gatedCases);
runGradients(dropoutCases);
runGradients(reduceCases, { without: awkward });
runGradients(softmaxCases, { without: awkward });
runGradients(normCases, { without: awkward });
runGradients(matmulCases);
runGradients(linearCases);
runGradients(embeddingCases);
runGradients(ropeCases, { constants: ['cos', 'sin'] });
runGradients(layoutCases, {
  without: ({ name, dtypes }) =>
    awkward({ name }) || Object.values(dtypes ?? {}).some((dtype) => dtype !== 'f32' && dtype !== 'f64'),
});
