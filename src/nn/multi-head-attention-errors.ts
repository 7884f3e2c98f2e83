/** Error messages of MultiHeadAttention for missing arguments. */
import { withFlax } from './arguments.ts';

export const OP = 'MultiHeadAttention';

export const VALUES_WITHOUT_KEYS: string = withFlax(
  `${OP}: expected inputsK beside inputsV, got none; inputsK alone serves for both`,
  '`inputs_k` cannot be None if `inputs_v` is not None. To have both `inputs_k` and `inputs_v` be the same value, ' +
    'pass in the value to `inputs_k` and leave `inputs_v` as None.',
);
export const NO_DECODE: string = withFlax(
  `${OP}: expected decode in the constructor, the call or setView, got none`,
  'No `decode` argument was provided to MultiHeadAttention as either a __call__ argument, class attribute, or nnx.flag.',
);
export const NO_DETERMINISTIC: string = withFlax(
  `${OP}: expected deterministic in the constructor, the call or setView, got none`,
  'No `deterministic` argument was provided to MultiHeadAttention as either a __call__ argument, class attribute, or nnx.flag.',
);
export const NO_RNGS: string = withFlax(
  `${OP}: expected rngs in the call of a module made with keepRngs: false, got none`,
  "'rngs' must be provided to __call__ method if MultiHeadAttention instance is defined with keep_rngs=False.",
);
export const NO_CACHE: string = withFlax(
  `${OP}: expected a cache, call initCache first`,
  'Autoregressive cache not initialized, call ``init_cache`` first.',
);
export const NO_BATCH_SIZE: string = withFlax(
  `${OP}: expected batchSize beside maxLength, got none`,
  "'batch_size' must be provided when initializing cache.",
);
export const NO_MAX_LENGTH: string = withFlax(
  `${OP}: expected maxLength beside batchSize, got none`,
  "'max_length' must be provided when initializing cache.",
);
