/**
 * Carries out a TensorMix in slices: reads what a slice of the new tensor needs, adds in double precision, rounds once. Bytes
 * that do not change are copied as they are, so that an identity is one bit for bit, in block types too.
 */
import type { Checkpoint, CheckpointTensor } from '../checkpoint/checkpoint.ts';
import type { StorageType } from '../format/storage-type.ts';
import { foldIn, key, normal } from '../random/index.ts';
import { bytesOf, decoded, decodeInto, encodeInto } from './number-codec.ts';
import type { Block, BlockSource, TensorMix } from './tensor-mix.ts';

/** Bytes per read: as fast as `cp` (see Checkpoint.readInto), and half the waits for a thread that 256 KiB takes. */
const COPY_BYTES = 1 << 19;
/** Values computed at a time. */
const SLICE_VALUES = 1 << 16;

export interface MixJob {
  readonly checkpoint: Checkpoint;
  readonly info: CheckpointTensor;
  /** Absent: the tensor as it is, perhaps as another type. */
  readonly mix?: TensorMix;
  readonly dtype: StorageType;
  readonly seed: number;
  /** Writes `[Out, In]` where the tensor is `[In, Out]`, or the other way round. */
  readonly transpose?: boolean;
}

/** Rows and columns of a tensor; a vector is a column. */
function matrixShape(shape: readonly number[]): readonly [rows: number, columns: number] {
  const [rows = 1, ...rest] = shape;
  return [rows, rest.reduce((product, dim) => product * dim, 1)];
}

/** The new tensor's shape. */
export function mixedShape({ info, mix, transpose }: Pick<MixJob, 'info' | 'mix' | 'transpose'>): number[] {
  const shape = [...info.shape];
  if (mix) shape[mix.axis] = mix.blocks.reduce((sum, { size }) => sum + size, 0);
  return transpose && shape.length === 2 ? shape.reverse() : shape;
}

/** The new tensor's bytes; each chunk is valid until the next is asked for. Made one chunk ahead, while the last is written. */
export async function* mixedBytes(job: MixJob): AsyncGenerator<Uint8Array> {
  const chunks = chunksOf(job);
  let next = chunks.next();
  try {
    for (;;) {
      const { value, done } = await next;
      if (done) return;
      next = chunks.next();
      // It is awaited later; an error meanwhile must not count as one that nobody handles.
      next.catch(() => {});
      yield value;
    }
  } finally {
    // Left early, by an error of the writer: what is on its way must be over before the checkpoint is closed.
    await next.catch(() => {});
  }
}

/** Chunks of which each is valid until the one after the next is asked for. */
async function* chunksOf(job: MixJob): AsyncGenerator<Uint8Array> {
  if (job.transpose && job.info.shape.length === 2) yield* transposed(job);
  else if (job.mix === undefined) yield* copied(job, 0, matrixShape(job.info.shape)[0]);
  else if (job.mix.axis === 0) yield* rowBlocks(job, job.mix);
  else yield* columnBlocks(job, job.mix);
}

/** Rows `first … first + count - 1` as they are. */
async function* copied(job: MixJob, first: number, count: number): AsyncGenerator<Uint8Array> {
  const { checkpoint, info, dtype } = job;
  const [rows, columns] = matrixShape(info.shape);
  const rowBytes = rows === 0 ? 0 : info.byteLength / rows;
  const end = (first + count) * rowBytes;
  if (dtype === info.dtype) {
    const buffer = new TwoBuffers(Math.min(COPY_BYTES, count * rowBytes));
    for (let at = first * rowBytes; at < end; at += COPY_BYTES) {
      const part = buffer.next().subarray(0, Math.min(COPY_BYTES, end - at));
      await checkpoint.readInto(info.name, at, part);
      yield part;
    }
    return;
  }
  // Values in a row of their own order: any slice of whole blocks will do.
  const total = count * columns;
  const values = new Float64Array(Math.min(SLICE_VALUES, total));
  const target = new TwoBuffers(bytesOf(dtype, values.length));
  const source = new Uint8Array(bytesOf(info.dtype, values.length));
  for (let at = 0; at < total; at += SLICE_VALUES) {
    const part = values.subarray(0, Math.min(SLICE_VALUES, total - at));
    const bytes = source.subarray(0, bytesOf(info.dtype, part.length));
    await checkpoint.readInto(info.name, first * rowBytes + bytesOf(info.dtype, at), bytes);
    decodeInto(info.dtype, bytes, part);
    yield encodeInto(dtype, part, target.next());
  }
}

async function* rowBlocks(job: MixJob, mix: TensorMix): AsyncGenerator<Uint8Array> {
  const columns = matrixShape(job.info.shape)[1];
  const rows = Math.max(0, ...mix.blocks.map((block) => (isCopied(block) ? 0 : sliceRows(block, columns))));
  const room = {
    sum: new Float64Array(rows * columns),
    read: new SliceReader(job, rows * columns),
    target: new TwoBuffers(bytesOf(job.dtype, rows * columns)),
  };
  for (const block of mix.blocks) {
    if (isCopied(block)) yield* copied(job, block.sources[0].first, block.size);
    else yield* rowBlock(job, mix, block, room);
  }
}

function isCopied({ sources }: Block): boolean {
  const [only] = sources;
  return sources.length === 1 && only.weight === 1 && only.matrix === undefined;
}

/** Rows of a block computed at a time: all of it when heads are turned, or drawn. */
function sliceRows({ size, sources }: Block, columns: number): number {
  const whole = sources.length === 0 || sources.some(({ matrix }) => matrix !== undefined);
  return whole ? size : rowsPerSlice(columns, size);
}

async function* rowBlock(
  { info, dtype, seed }: MixJob,
  mix: TensorMix,
  block: Block,
  { sum, read, target }: { sum: Float64Array; read: SliceReader; target: TwoBuffers },
): AsyncGenerator<Uint8Array> {
  const columns = matrixShape(info.shape)[1];
  const rows = sliceRows(block, columns);
  const { sources } = block;
  for (let at = 0; at < block.size; at += rows) {
    const count = Math.min(rows, block.size - at);
    const part = sum.subarray(0, count * columns);
    part.fill(-0); // so that -0 stays -0
    if (sources.length === 0) part.set(drawn(mix, block, columns, seed));
    else {
      let next = read.bytes(sources[0].first + at, count);
      for (let i = 0; i < sources.length; i++) {
        const bytes = await next;
        if (i + 1 < sources.length) next = read.bytes(sources[i + 1].first + at, count);
        addRows(part, decoded(info.dtype, bytes, part.length), sources[i], block.size, columns);
      }
    }
    yield encodeInto(dtype, part, target.next());
  }
}

/** sum += weight * matrix @ values, `[rows, columns]` */
function addRows(
  sum: Float64Array,
  values: Float32Array | Float64Array,
  { weight, matrix }: BlockSource,
  size: number,
  columns: number,
): void {
  if (matrix === undefined) {
    for (let i = 0; i < sum.length; i++) sum[i] += weight * values[i];
    return;
  }
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

async function* columnBlocks(job: MixJob, mix: TensorMix): AsyncGenerator<Uint8Array> {
  const { info, dtype, seed } = job;
  const [rows, before] = matrixShape(info.shape);
  const after = mix.blocks.reduce((sum, { size }) => sum + size, 0);
  const fresh = mix.blocks.map((block) =>
    block.sources.length === 0 ? drawn(mix, block, rows, seed) : undefined,
  );
  const count = rowsPerSlice(Math.max(before, after), rows);
  const read = new SliceReader(job, count * before);
  const out = new Float64Array(count * after);
  const target = new TwoBuffers(bytesOf(dtype, out.length));
  for (let at = 0; at < rows; at += count) {
    const here = Math.min(count, rows - at);
    const values = decoded(info.dtype, await read.bytes(at, here), here * before);
    out.fill(-0);
    let column = 0;
    mix.blocks.forEach((block, b) => {
      const draws = fresh[b];
      for (let r = 0; r < here; r++) {
        const to = out.subarray(r * after + column, r * after + column + block.size);
        for (const source of block.sources) addColumns(to, values, r * before + source.first, source);
        if (draws) for (let c = 0; c < block.size; c++) to[c] = draws[c * rows + at + r];
      }
      column += block.size;
    });
    yield encodeInto(dtype, out.subarray(0, here * after), target.next());
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

/** A new head `[size, columns]` from a normal distribution: the same for the same seed, tensor and head. */
function drawn({ blocks, draw }: TensorMix, block: Block, columns: number, seed: number): Float64Array {
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

/** The whole matrix at once: only GPT-2's, of at most some ten million values, are stored by input. */
async function* transposed(job: MixJob): AsyncGenerator<Uint8Array> {
  const { info, dtype } = job;
  const [columns, rows] = mixedShape(job);
  const values = new Float32Array(rows * columns);
  const part = new Float64Array(Math.max(SLICE_VALUES, columns));
  let at = 0;
  const asFloats: MixJob = { ...job, transpose: false, dtype: 'f32' };
  for await (const chunk of chunksOf(asFloats)) {
    const floats = new Float32Array(chunk.buffer, chunk.byteOffset, chunk.byteLength / 4);
    values.set(floats, at);
    at += floats.length;
  }
  if (info.dtype === 'f64') throw new TypeError(`${info.name}: expected at most f32, got f64`);
  // values is [rows, columns] as stored; the new tensor is [columns, rows]
  const perSlice = rowsPerSlice(rows, columns);
  const out = part.length >= perSlice * rows ? part : new Float64Array(perSlice * rows);
  const target = new TwoBuffers(bytesOf(dtype, out.length));
  for (let first = 0; first < columns; first += perSlice) {
    const count = Math.min(perSlice, columns - first);
    for (let c = 0; c < count; c++) {
      for (let r = 0; r < rows; r++) out[c * rows + r] = values[r * columns + first + c];
    }
    yield encodeInto(dtype, out.subarray(0, count * rows), target.next());
  }
}

function rowsPerSlice(columns: number, most: number): number {
  return Math.max(1, Math.min(most, Math.floor(SLICE_VALUES / Math.max(1, columns))));
}

/** One buffer to fill while the other is written. */
class TwoBuffers {
  #now: Uint8Array<ArrayBuffer>;
  #other: Uint8Array<ArrayBuffer>;

  constructor(bytes: number) {
    this.#now = new Uint8Array(bytes);
    this.#other = new Uint8Array(bytes);
  }

  next(): Uint8Array<ArrayBuffer> {
    [this.#now, this.#other] = [this.#other, this.#now];
    return this.#now;
  }
}

/** Rows of the old tensor as stored; what it gave is valid until the read after the next. */
class SliceReader {
  readonly #job: MixJob;
  readonly #columns: number;
  readonly #buffers: TwoBuffers;

  constructor(job: MixJob, most: number) {
    this.#job = job;
    this.#columns = matrixShape(job.info.shape)[1];
    this.#buffers = new TwoBuffers(bytesOf(job.info.dtype, most));
  }

  async bytes(first: number, count: number): Promise<Uint8Array<ArrayBuffer>> {
    const { checkpoint, info } = this.#job;
    const bytes = this.#buffers.next().subarray(0, bytesOf(info.dtype, count * this.#columns));
    await checkpoint.readInto(info.name, bytesOf(info.dtype, first * this.#columns), bytes);
    return bytes;
  }
}
