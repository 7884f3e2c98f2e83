/**
 * Converts a tensor by its plan, in slices: reads the inputs of a slice, sums in double precision, rounds
 * once. Unchanged bytes are copied, so an identity conversion is exact, in block types too.
 */
import type { Checkpoint, CheckpointTensor } from '../checkpoint/checkpoint.ts';
import type { TensorBytes } from '../checkpoint/tensor-bytes.ts';
import type { StorageType } from '../format/storage-type.ts';
import { foldIn, key, normal } from '../random/index.ts';
import { isCopy } from './head-mix.ts';
import { addScaled, bytesOf, decoded, decodeInto, encodeInto } from './number-codec.ts';
import type { SpareBuffers } from './spare-buffers.ts';
import type { Block, BlockSource, TensorPlan } from './tensor-plan.ts';

/** Bytes per read, large enough that few reads wait for a thread. */
const COPY_BYTES = 1 << 22;
/** Values computed at a time. */
const SLICE_VALUES = 1 << 17;
/** Heads read and added at a time; `addScaled` has one loop for as many. */
const SOURCES = 4;

export interface TensorJob {
  readonly checkpoint: Checkpoint;
  readonly info: CheckpointTensor;
  /** Absent: the tensor unchanged, or only its dtype changed. */
  readonly plan?: TensorPlan;
  readonly dtype: StorageType;
  readonly seed: number;
  /** Shared by all tensors of a conversion. */
  readonly buffers: SpareBuffers;
  /** Writes `[Out, In]` where the tensor is `[In, Out]`, or the other way round. */
  readonly transpose?: boolean;
}

/** Rows and columns of a tensor; a vector is a column. */
function matrixShape(shape: readonly number[]): readonly [rows: number, columns: number] {
  const [rows = 1, ...rest] = shape;
  return [rows, rest.reduce((product, dim) => product * dim, 1)];
}

/**
 * The new tensor as the writers take it.
 * @param count called with the bytes of each chunk when the next is requested
 */
export function convertedTensor(job: TensorJob, count: (bytes: number) => void): TensorBytes {
  async function* data(): AsyncGenerator<Uint8Array> {
    for await (const chunk of convertedBytes(job)) {
      yield chunk;
      count(chunk.byteLength);
    }
  }
  return { dtype: job.dtype, shape: convertedShape(job), data };
}

/** The new tensor's shape. */
export function convertedShape({ info, plan, transpose }: TensorJob): number[] {
  const shape = [...info.shape];
  if (plan) shape[plan.axis] = plan.blocks.reduce((sum, { size }) => sum + size, 0);
  return transpose && shape.length === 2 ? shape.reverse() : shape;
}

/** The new tensor's bytes; each chunk is valid until the next is requested. */
function convertedBytes(job: TensorJob): AsyncGenerator<Uint8Array> {
  if (job.transpose && job.info.shape.length === 2) return transposed(job);
  if (job.plan === undefined) return copied(job, 0, matrixShape(job.info.shape)[0]);
  return job.plan.axis === 0 ? rowBlocks(job, job.plan) : columnBlocks(job, job.plan);
}

/** Rows `first … first + count - 1`, copied unchanged. */
async function* copied(job: TensorJob, first: number, count: number): AsyncGenerator<Uint8Array> {
  const { checkpoint, info, dtype, buffers } = job;
  const [rows, columns] = matrixShape(info.shape);
  const rowBytes = rows === 0 ? 0 : info.byteLength / rows;
  const end = (first + count) * rowBytes;
  if (dtype === info.dtype) {
    const buffer = buffers.take(Math.min(COPY_BYTES, count * rowBytes));
    for (let at = first * rowBytes; at < end; at += COPY_BYTES) {
      const part = buffer.subarray(0, Math.min(COPY_BYTES, end - at));
      await checkpoint.readInto(info.name, at, part);
      yield part;
    }
    buffers.give(buffer);
    return;
  }
  // The order is unchanged, so slices may be of any whole blocks.
  const total = count * columns;
  const values = new Float64Array(Math.min(SLICE_VALUES, total));
  const target = new Uint8Array(bytesOf(dtype, values.length));
  const source = new Uint8Array(bytesOf(info.dtype, values.length));
  for (let at = 0; at < total; at += SLICE_VALUES) {
    const part = values.subarray(0, Math.min(SLICE_VALUES, total - at));
    const bytes = source.subarray(0, bytesOf(info.dtype, part.length));
    await checkpoint.readInto(info.name, first * rowBytes + bytesOf(info.dtype, at), bytes);
    decodeInto(info.dtype, bytes, part);
    yield encodeInto(dtype, part, target);
  }
}

/** Memory that the blocks of a tensor share. */
interface Room {
  readonly sum: Float64Array<ArrayBuffer>;
  readonly read: readonly Uint8Array<ArrayBuffer>[];
  readonly target: Uint8Array<ArrayBuffer>;
}

async function* rowBlocks(job: TensorJob, plan: TensorPlan): AsyncGenerator<Uint8Array> {
  const { info, dtype, buffers } = job;
  const columns = matrixShape(info.shape)[1];
  const rows = Math.max(
    0,
    ...plan.blocks.map((block) => (isCopy(block.sources) ? 0 : sliceRows(block, columns))),
  );
  const values = rows * columns;
  const sum = buffers.take(8 * values);
  const read = Array.from({ length: SOURCES }, () => buffers.take(bytesOf(info.dtype, values)));
  const target = buffers.take(bytesOf(dtype, values));
  const room: Room = { sum: new Float64Array(sum.buffer), read, target };
  for (const block of plan.blocks) {
    if (isCopy(block.sources)) yield* copied(job, block.sources[0].first, block.size);
    else yield* rowBlock(job, plan, block, room);
  }
  for (const buffer of [sum, ...read, target]) buffers.give(buffer);
}

/** Rows of a block computed at a time: all of them when a head has a matrix or is random. */
function sliceRows({ size, sources }: Block, columns: number): number {
  const whole = sources.length === 0 || sources.some(({ matrix }) => matrix !== undefined);
  return whole ? size : rowsPerSlice(columns, size);
}

async function* rowBlock(
  job: TensorJob,
  plan: TensorPlan,
  block: Block,
  { sum, read, target }: Room,
): AsyncGenerator<Uint8Array> {
  const { info, dtype, seed } = job;
  const { size, sources } = block;
  const columns = matrixShape(info.shape)[1];
  const rows = sliceRows(block, columns);
  for (let at = 0; at < size; at += rows) {
    const count = Math.min(rows, size - at);
    const part = sum.subarray(0, count * columns);
    part.fill(-0); // so that -0 stays -0
    if (sources.length === 0) part.set(fresh(plan, block, columns, seed));
    for (let s = 0; s < sources.length; s += SOURCES) {
      const few = sources.slice(s, s + SOURCES);
      const bytes = await Promise.all(few.map(({ first }, i) => readRows(job, first + at, count, read[i])));
      if (few.every(({ matrix }) => matrix === undefined)) {
        const weights = few.map(({ weight }) => weight);
        addScaled(info.dtype, bytes, weights, part);
      } else {
        few.forEach((source, i) => {
          addTurned(part, decoded(info.dtype, bytes[i], part.length), source, size);
        });
      }
    }
    yield encodeInto(dtype, part, target);
  }
}

/** sum += weight * matrix @ values; matrix `[size, size]`, the others `[size, columns]` */
export function addTurned(
  sum: Float64Array,
  values: Float32Array | Float64Array,
  { weight, matrix }: Pick<BlockSource, 'weight' | 'matrix'>,
  size: number,
): void {
  if (matrix === undefined) {
    for (let i = 0; i < sum.length; i++) sum[i] += weight * values[i];
    return;
  }
  const columns = sum.length / size;
  for (let r = 0; r < size; r++) {
    const to = sum.subarray(r * columns, (r + 1) * columns);
    for (let s = 0; s < size; s++) {
      const factor = weight * matrix[r * size + s];
      if (factor === 0) continue;
      const at = s * columns;
      for (let c = 0; c < columns; c++) to[c] += factor * values[at + c];
    }
  }
}

async function* columnBlocks(job: TensorJob, plan: TensorPlan): AsyncGenerator<Uint8Array> {
  const { info, dtype, seed } = job;
  const [rows, before] = matrixShape(info.shape);
  const after = plan.blocks.reduce((sum, { size }) => sum + size, 0);
  const given = plan.blocks.map((block) =>
    block.sources.length === 0 ? fresh(plan, block, rows, seed) : undefined,
  );
  const count = rowsPerSlice(Math.max(before, after), rows);
  const source = new Uint8Array(bytesOf(info.dtype, count * before));
  const out = new Float64Array(count * after);
  const target = new Uint8Array(bytesOf(dtype, out.length));
  for (let at = 0; at < rows; at += count) {
    const here = Math.min(count, rows - at);
    const old = decoded(info.dtype, await readRows(job, at, here, source), here * before);
    out.fill(-0);
    let column = 0;
    plan.blocks.forEach((block, b) => {
      const values = given[b];
      for (let r = 0; r < here; r++) {
        const to = out.subarray(r * after + column, r * after + column + block.size);
        for (const source of block.sources) addColumns(to, old, r * before + source.first, source);
        if (values) for (let c = 0; c < block.size; c++) to[c] = values[c * rows + at + r];
      }
      column += block.size;
    });
    yield encodeInto(dtype, out.subarray(0, here * after), target);
  }
}

/** to += weight * matrix @ values[at …] */
function addColumns(
  to: Float64Array,
  values: Float32Array | Float64Array,
  at: number,
  { weight, matrix }: BlockSource,
): void {
  const { length } = to;
  if (matrix === undefined) {
    for (let c = 0; c < length; c++) to[c] += weight * values[at + c];
    return;
  }
  for (let c = 0; c < length; c++) {
    let total = 0;
    for (let s = 0; s < length; s++) total += matrix[c * length + s] * values[at + s];
    to[c] += weight * total;
  }
}

/** The numbers of a block without sources, `[size, columns]`. */
function fresh(plan: TensorPlan, block: Block, columns: number, seed: number): Float32Array | Float64Array {
  return block.values ?? drawn(plan, block, columns, seed);
}

/** A new head `[size, columns]` from a normal distribution: the same for the same seed, tensor and head. */
function drawn({ blocks, draw }: TensorPlan, block: Block, columns: number, seed: number): Float64Array {
  const count = block.size * columns;
  if (draw.stddev === 0) return new Float64Array(count);
  const stream = foldIn(foldIn(key(seed), draw.stream), blocks.indexOf(block));
  const tensor = normal(stream, [count]);
  try {
    return Float64Array.from(tensor.dataSync(), (value) => Number(value) * draw.stddev);
  } finally {
    tensor.dispose();
  }
}

/** The whole matrix in memory: only GPT-2's are stored `[In, Out]`, of some ten million values at most. */
async function* transposed(job: TensorJob): AsyncGenerator<Uint8Array> {
  const { info, dtype } = job;
  const [columns, rows] = convertedShape(job);
  const Floats = info.dtype === 'f64' ? Float64Array : Float32Array;
  const values = new Floats(rows * columns);
  const part = new Float64Array(Math.max(SLICE_VALUES, columns));
  let at = 0;
  const asFloats: TensorJob = { ...job, transpose: false, dtype: info.dtype === 'f64' ? 'f64' : 'f32' };
  for await (const chunk of convertedBytes(asFloats)) {
    const floats = new Floats(
      chunk.buffer as ArrayBuffer,
      chunk.byteOffset,
      chunk.byteLength / Floats.BYTES_PER_ELEMENT,
    );
    values.set(floats, at);
    at += floats.length;
  }
  // values is [rows, columns] as stored; the new tensor is [columns, rows]
  const perSlice = rowsPerSlice(rows, columns);
  const out = part.length >= perSlice * rows ? part : new Float64Array(perSlice * rows);
  const target = new Uint8Array(bytesOf(dtype, out.length));
  for (let first = 0; first < columns; first += perSlice) {
    const count = Math.min(perSlice, columns - first);
    for (let c = 0; c < count; c++) {
      for (let r = 0; r < rows; r++) out[c * rows + r] = values[r * columns + first + c];
    }
    yield encodeInto(dtype, out.subarray(0, count * rows), target);
  }
}

function rowsPerSlice(columns: number, maxRows: number): number {
  return Math.max(1, Math.min(maxRows, Math.floor(SLICE_VALUES / Math.max(1, columns))));
}

/** Rows of the old tensor as stored, in `buffer`. */
async function readRows(
  { checkpoint, info }: TensorJob,
  first: number,
  count: number,
  buffer: Uint8Array<ArrayBuffer>,
): Promise<Uint8Array<ArrayBuffer>> {
  const rowBytes = bytesOf(info.dtype, matrixShape(info.shape)[1]);
  const bytes = buffer.subarray(0, count * rowBytes);
  await checkpoint.readInto(info.name, first * rowBytes, bytes);
  return bytes;
}
