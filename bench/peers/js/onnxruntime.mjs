/**
 * onnxruntime-node's GroupQueryAttention (com.microsoft) as a contender. The model of one node is encoded
 * here. In a decode row past and present keys share one buffer, as in ONNX Runtime's own generation, so the
 * cache is not copied.
 */
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { checkedRows, numbers, SEEDS } from '../../inputs.mjs';
import { sample, serve } from '../../serve.mjs';

/** A field of a protocol buffer: bytes (a string, a message) or an integer. */
function field(number, value) {
  if (typeof value === 'number') return Buffer.from([...varint(number << 3), ...varint(value)]);
  const bytes = typeof value === 'string' ? Buffer.from(value) : Buffer.concat([value].flat(9));
  return Buffer.concat([Buffer.from([...varint((number << 3) | 2), ...varint(bytes.length)]), bytes]);
}

function varint(value) {
  const bytes = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...bytes, rest];
    bytes.push((rest % 128) + 128);
  }
}

const FLOAT = 1;
const INT32 = 6;
const valueInfo = (name, type, rank) => {
  const dims = Array.from({ length: rank }, (_, i) => field(1, field(2, `${name}${i}`)));
  return [field(1, name), field(2, field(1, [field(1, type), field(2, dims)]))];
};
const attribute = (name, value) => field(5, [field(1, name), field(3, value), field(20, 2)]);

/** A ModelProto of one GroupQueryAttention node. The field numbers are those of onnx.proto. */
function model({ N, K }) {
  const inputs = [
    ['query', FLOAT, 3],
    ['key', FLOAT, 3],
    ['value', FLOAT, 3],
    ['past_key', FLOAT, 4],
    ['past_value', FLOAT, 4],
    ['seqlens_k', INT32, 1],
    ['total_sequence_length', INT32, 0],
  ];
  const outputs = [
    ['output', FLOAT, 3],
    ['present_key', FLOAT, 4],
    ['present_value', FLOAT, 4],
  ];
  const node = [
    ...inputs.map(([name]) => field(1, name)),
    ...outputs.map(([name]) => field(2, name)),
    field(4, 'GroupQueryAttention'),
    attribute('num_heads', N),
    attribute('kv_num_heads', K),
    field(7, 'com.microsoft'),
  ];
  const graph = [
    field(1, node),
    field(2, 'attention'),
    ...inputs.map((input) => field(11, valueInfo(...input))),
    ...outputs.map((output) => field(12, valueInfo(...output))),
  ];
  const opset = (domain, version) => field(8, [field(1, domain), field(2, version)]);
  return Buffer.concat([field(1, 10), opset('', 21), opset('com.microsoft', 1), field(7, graph)]);
}

let session;
let sets = [];
let next = 0;
let shape;

async function release() {
  await session?.release();
  session = undefined;
  sets = [];
}

/** The feeds of one call, and for a decode row the outputs to write into. */
function makeSet({ T, S, N, K, H }, query, key, value) {
  const f32 = (data, dims) => new Tensor('float32', data, dims);
  const common = {
    query: f32(query, [1, T, N * H]),
    seqlens_k: new Tensor('int32', Int32Array.of(S - 1), [1]),
    total_sequence_length: new Tensor('int32', Int32Array.of(S), []),
  };
  if (T > 1) {
    const none = () => f32(new Float32Array(0), [1, K, 0, H]);
    const fresh = { key: f32(key, [1, T, K * H]), value: f32(value, [1, T, K * H]) };
    return { feeds: { ...common, ...fresh, past_key: none(), past_value: none() }, fetches: undefined };
  }
  // The cache: [S, K, H] -> [1, K, S, H]. The last token is the step's own key and value.
  const transposed = (x) => {
    const out = new Float32Array(x.length);
    for (let s = 0; s < S; s++)
      for (let k = 0; k < K; k++) out.set(x.subarray((s * K + k) * H, (s * K + k + 1) * H), (k * S + s) * H);
    return f32(out, [1, K, S, H]);
  };
  const last = (x) => f32(x.slice((S - 1) * K * H), [1, 1, K * H]);
  const [pastKey, pastValue] = [transposed(key), transposed(value)];
  return {
    feeds: { ...common, key: last(key), value: last(value), past_key: pastKey, past_value: pastValue },
    fetches: {
      output: f32(new Float32Array(N * H), [1, 1, N * H]),
      present_key: pastKey,
      present_value: pastValue,
    },
  };
}

function call() {
  const { feeds, fetches } = sets[next++ % sets.length];
  return fetches ? session.run(feeds, fetches) : session.run(feeds);
}

async function open(threads) {
  await session?.release();
  session = await InferenceSession.create(model(shape), { intraOpNumThreads: threads, interOpNumThreads: 1 });
  shape.threads = threads;
}

await serve({
  about: async () => {
    const { default: versions } = await import('onnxruntime-node/package.json', { with: { type: 'json' } });
    return { description: `onnxruntime-node ${versions.version}` };
  },

  async prepare(wanted) {
    await release();
    shape = { ...wanted };
    const { B, T, S, N, K, H, dtype, rotateBytes = 0 } = shape;
    if (dtype !== 'f32' || B !== 1)
      throw new Error(`GroupQueryAttention: expected f32 and B=1, got ${dtype} and B=${B}`);
    await open(shape.threads);
    const query = numbers(SEEDS.query, T * N * H);
    const key = numbers(SEEDS.key, S * K * H);
    const value = numbers(SEEDS.value, S * K * H);
    const count = Math.max(1, Math.ceil(rotateBytes / (8 * S * K * H)));
    sets = Array.from({ length: count }, () => makeSet(shape, query, key, value));
    next = 0;
    const { output } = await call();
    return {
      rows: checkedRows(shape).flatMap(([t, n]) => [
        ...output.data.subarray((t * N + n) * H, (t * N + n + 1) * H),
      ]),
    };
  },

  setThreads: open,
  sample: (milliseconds) => sample(call, milliseconds, shape.threads),
  release,
});
