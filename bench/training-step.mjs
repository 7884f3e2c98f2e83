/** One training step of nanoGPT's recipe, for training.mjs and profile.mjs. */
import { valueAndGrad } from 'gqa';
import { adamw, causalLmLoss, chain, clipByGlobalNorm, createModel, llamaConfig, Optimizer } from 'gqa/train';

const sizes = (hiddenSize, numLayers, numHeads, numKeyValueHeads, block) => ({
  ...{ vocabSize: 65, hiddenSize, numLayers, numHeads, numKeyValueHeads },
  maxPositionEmbeddings: block,
});

/** A model of 0.7 million parameters, and one of 9.6. */
export const TRAINING_ROWS = {
  small: { sizes: sizes(128, 4, 4, 2, 64), batch: 12, block: 64, runs: 50 },
  large: { sizes: sizes(384, 6, 6, 2, 256), batch: 16, block: 256, runs: 2 },
};

export const LEARNING_RATE = 1e-3;

/** The model of a row, its batch, and a function that takes a step and returns the loss. */
export function trainingStep({ sizes, batch, block }) {
  const config = llamaConfig(sizes);
  const model = createModel(config, { seed: 1 });
  const tokens = Array.from({ length: batch }, (_, b) =>
    Array.from({ length: block + 1 }, (_, t) => ((b * 7919 + t * t * 31 + t * 7) % 4099) % sizes.vocabSize),
  );
  const optimizer = new Optimizer(
    model,
    chain(clipByGlobalNorm(1), adamw({ learningRate: LEARNING_RATE, b1: 0.9, b2: 0.99, weightDecay: 0.1 })),
  );
  const step = () => {
    const [loss, gradients] = valueAndGrad((m) => causalLmLoss(m, tokens))(model);
    const value = loss.dataSync()[0];
    loss.dispose();
    optimizer.update(model, gradients);
    return value;
  };
  return { config, model, tokens, step };
}
