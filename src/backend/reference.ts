/**
 * The reference backend: every kernel as the plainest TypeScript that can be right. Sums are f64, results are rounded
 * once to the output's dtype, f64 tensors work everywhere. It is the oracle of the tests and runs anywhere; it is slow on
 * purpose. Fresh memory is filled with NaN bits, so that reading what was never written shows.
 */
import { byteLengthOf, DTYPES, isBlockDType } from '../tensor/dtype.ts';
import { encode } from '../tensor/encode.ts';
import { encodeQ8 } from '../tensor/encode-q8.ts';
import { UnsupportedError } from '../tensor/errors.ts';
import { type Shape, sizeOf } from '../tensor/shape.ts';
import type { Storage } from '../tensor/storage.ts';
import type {
  AdamwCall,
  AttentionBackwardCall,
  AttentionCall,
  Backend,
  BackendFile,
  BinaryOp,
  ExpertChoice,
  ExpertLinearBackwardCall,
  ExpertLinearCall,
  GateActivation,
  LinearBackwardPart,
  LinearPart,
  NormBackwardCall,
  Operand,
  RandomCall,
  ReduceOp,
  UnaryOp,
} from './backend.ts';
import { checkFileRange, checkRange, isCount, outOfMemory } from './memory-range.ts';
import { node } from './platform.ts';
import { attention } from './reference/attention.ts';
import { attentionBackward } from './reference/attention-backward.ts';
import * as backward from './reference/backward.ts';
import * as experts from './reference/experts.ts';
import { BINARY, GATE, UNARY } from './reference/functions.ts';
import { bytesOf, bytesStorage, decodeAt, store, valuesOf, walk } from './reference/memory.ts';
import { randomValue } from './reference/random.ts';

export class ReferenceBackend implements Backend {
  readonly name = 'reference';
  readonly description = 'reference (TypeScript, f64 accumulation)';
  #bytesInUse = 0;

  /** Bytes of all storages not yet freed; lifetime tests watch it. */
  get bytesInUse(): number {
    return this.#bytesInUse;
  }

  allocate(byteLength: number): Storage {
    if (!isCount(byteLength)) throw outOfMemory(this.name, byteLength);
    return this.#adopt(new Uint8Array(byteLength).fill(0xff));
  }

  #adopt(bytes: Uint8Array<ArrayBuffer>): Storage {
    this.#bytesInUse += bytes.byteLength;
    return bytesStorage(this, bytes);
  }

  free(storage: Storage): void {
    this.#bytesInUse -= storage.byteLength;
  }

  /** Its bytes are V8's, which knows them. */
  reportExternalMemory(): void {}

  read(storage: Storage, byteOffset: number, byteLength: number): Uint8Array<ArrayBuffer> {
    checkRange('read', storage, byteOffset, byteLength);
    return bytesOf(storage).slice(byteOffset, byteOffset + byteLength);
  }

  write(storage: Storage, bytes: Uint8Array, byteOffset = 0): void {
    checkRange('write', storage, byteOffset, bytes.byteLength);
    bytesOf(storage).set(bytes, byteOffset);
  }

  openFile(path: string): BackendFile {
    if (!node) throw new UnsupportedError('openFile', 'a path', this.name, 'there are no files in a browser');
    const { fs } = node;
    const file = fs.openSync(path, 'r');
    const { size } = fs.fstatSync(file);
    let closed = false;
    return {
      size,
      storage: (byteOffset, byteLength) => {
        if (closed) throw new Error(`${path}: read after close()`);
        checkFileRange(path, size, byteOffset, byteLength);
        const bytes = new Uint8Array(byteLength);
        for (let done = 0; done < byteLength; ) {
          const count = fs.readSync(file, bytes, done, byteLength - done, byteOffset + done);
          if (count === 0) throw new RangeError(`${path}: ended at byte ${byteOffset + done} of ${size}`);
          done += count;
        }
        return this.#adopt(bytes);
      },
      close() {
        if (!closed) fs.closeSync(file);
        closed = true;
      },
    };
  }

  setThreads(): void {}

  fill(out: Operand, value: number): void {
    store(out, new Float64Array(sizeOf(out.shape)).fill(value));
  }

  convert(out: Operand, outOffset: number, x: Operand, xOffset: number, count: number): void {
    const encodes = out.dtype === 'q8_0' && x.dtype === 'f32';
    if (isBlockDType(out.dtype) && out.dtype !== x.dtype && !encodes) {
      throw new UnsupportedError('convert', `${x.dtype} to ${out.dtype}`, this.name);
    }
    const from = byteLengthOf(x.dtype, xOffset);
    const to = byteLengthOf(out.dtype, outOffset);
    if (out.dtype === x.dtype) {
      const bytes = bytesOf(x.storage).subarray(from, from + byteLengthOf(x.dtype, count));
      bytesOf(out.storage).set(bytes, to);
      return;
    }
    const values = decodeAt(x.storage, x.dtype, from, count);
    if (encodes) {
      bytesOf(out.storage).set(encodeQ8(values), to);
      return;
    }
    const truth = out.dtype === 'bool';
    bytesOf(out.storage).set(
      encode(out.dtype, truth ? Array.from(values, (v) => Number(v !== 0)) : values),
      to,
    );
  }

  copyStrided(
    out: Operand,
    outOffset: number,
    outStrides: readonly number[],
    x: Operand,
    xOffset: number,
    xStrides: readonly number[],
    shape: Shape,
  ): void {
    const width = DTYPES[x.dtype].blockBytes;
    const from = bytesOf(x.storage);
    const to = bytesOf(out.storage);
    walk(shape, [outStrides, xStrides], (o, i) => {
      for (let byte = 0; byte < width; byte++)
        to[(outOffset + o) * width + byte] = from[(xOffset + i) * width + byte];
    });
  }

  unary(op: UnaryOp, out: Operand, x: Operand): void {
    store(out, Float64Array.from(valuesOf(x), UNARY[op]));
  }

  binary(
    op: BinaryOp,
    out: Operand,
    a: Operand,
    aStrides: readonly number[],
    b: Operand,
    bStrides: readonly number[],
  ): void {
    const [x, y] = [valuesOf(a), valuesOf(b)];
    const result = new Float64Array(sizeOf(out.shape));
    let next = 0;
    walk(out.shape, [aStrides, bStrides], (i, j) => {
      result[next++] = BINARY[op](x[i], y[j]);
    });
    store(out, result);
  }

  reduce(op: ReduceOp, out: Operand, x: Operand, outer: number, n: number, inner: number): void {
    const values = valuesOf(x);
    const start = { sum: 0, max: -Infinity, min: Infinity }[op];
    const join = { sum: BINARY.add, max: BINARY.max, min: BINARY.min }[op];
    const result = new Float64Array(outer * inner).fill(start);
    for (let o = 0; o < outer; o++) {
      for (let k = 0; k < n; k++) {
        for (let i = 0; i < inner; i++) {
          result[o * inner + i] = join(result[o * inner + i], values[(o * n + k) * inner + i]);
        }
      }
    }
    store(out, result);
  }

  softmax(out: Operand, x: Operand, rows: number, n: number): void {
    const values = valuesOf(x);
    const result = new Float64Array(rows * n);
    for (let row = 0; row < rows; row++) {
      let max = -Infinity;
      for (let i = row * n; i < (row + 1) * n; i++) max = Math.max(max, values[i]);
      if (max === -Infinity) continue;
      let sum = 0;
      for (let i = row * n; i < (row + 1) * n; i++) sum += Math.exp(values[i] - max);
      for (let i = row * n; i < (row + 1) * n; i++) result[i] = Math.exp(values[i] - max) / sum;
    }
    store(out, result);
  }

  matmul(out: Operand, a: Operand, b: Operand, dims: Parameters<Backend['matmul']>[3]): void {
    const { batch, M, N, K, transposeA, transposeB } = dims;
    const [x, y] = [valuesOf(a), valuesOf(b)];
    const [xm, xk] = transposeA ? [1, M] : [K, 1];
    const [yk, yn] = transposeB ? [1, K] : [N, 1];
    const result = new Float64Array(batch * M * N);
    let next = 0;
    for (let i = 0; i < batch; i++) {
      for (let m = 0; m < M; m++) {
        for (let n = 0; n < N; n++) {
          let at = i * dims.aBatchStride + m * xm;
          let bt = i * dims.bBatchStride + n * yn;
          let sum = 0;
          for (let k = 0; k < K; k++, at += xk, bt += yk) sum += x[at] * y[bt];
          result[next++] = sum;
        }
      }
    }
    store(out, result);
  }

  linear(x: Operand, rows: number, inFeatures: number, parts: readonly LinearPart[]): void {
    const values = valuesOf(x);
    for (const { weight, bias, out } of parts) {
      const outFeatures = weight.shape[0];
      const rowBytes = byteLengthOf(weight.dtype, inFeatures);
      const added = bias && valuesOf(bias);
      const result = new Float64Array(rows * outFeatures);
      for (let o = 0; o < outFeatures; o++) {
        const row = decodeAt(weight.storage, weight.dtype, o * rowBytes, inFeatures);
        for (let r = 0; r < rows; r++) {
          let sum = 0;
          for (let i = 0; i < inFeatures; i++) sum += values[r * inFeatures + i] * row[i];
          result[r * outFeatures + o] = sum + (added ? added[o] : 0);
        }
      }
      store(out, result);
    }
  }

  embedding(out: Operand, table: Operand, ids: Operand): void {
    const dim = table.shape[1];
    const rowBytes = byteLengthOf(table.dtype, dim);
    const result = new Float64Array(sizeOf(ids.shape) * dim);
    valuesOf(ids).forEach((id, i) => {
      result.set(decodeAt(table.storage, table.dtype, id * rowBytes, dim), i * dim);
    });
    store(out, result);
  }

  rmsNorm(
    out: Operand,
    x: Operand,
    rows: number,
    n: number,
    weight: Operand | undefined,
    eps: number,
    weightOffset: number,
  ): void {
    const values = valuesOf(x);
    const scale = weight && valuesOf(weight);
    const result = new Float64Array(rows * n);
    for (let row = 0; row < rows; row++) {
      let squares = 0;
      for (let i = 0; i < n; i++) squares += values[row * n + i] ** 2;
      const factor = 1 / Math.sqrt(squares / n + eps);
      for (let i = 0; i < n; i++) {
        result[row * n + i] = values[row * n + i] * factor * (scale ? scale[i] + weightOffset : 1);
      }
    }
    store(out, result);
  }

  layerNorm(
    out: Operand,
    x: Operand,
    rows: number,
    n: number,
    weight: Operand | undefined,
    bias: Operand | undefined,
    eps: number,
  ): void {
    const values = valuesOf(x);
    const scale = weight && valuesOf(weight);
    const shift = bias && valuesOf(bias);
    const result = new Float64Array(rows * n);
    for (let row = 0; row < rows; row++) {
      let mean = 0;
      for (let i = 0; i < n; i++) mean += values[row * n + i] / n;
      let variance = 0;
      for (let i = 0; i < n; i++) variance += (values[row * n + i] - mean) ** 2 / n;
      const factor = 1 / Math.sqrt(variance + eps);
      for (let i = 0; i < n; i++) {
        const unit = (values[row * n + i] - mean) * factor;
        result[row * n + i] = unit * (scale ? scale[i] : 1) + (shift ? shift[i] : 0);
      }
    }
    store(out, result);
  }

  rope(
    out: Operand,
    x: Operand,
    tokens: number,
    heads: number,
    headDim: number,
    cos: Operand,
    sin: Operand,
    half: number,
    interleaved: boolean,
    direction: 1 | -1,
  ): void {
    const [values, c, s] = [valuesOf(x), valuesOf(cos), valuesOf(sin)];
    const result = Float64Array.from(values);
    for (let token = 0; token < tokens; token++) {
      for (let head = 0; head < heads; head++) {
        const start = (token * heads + head) * headDim;
        for (let i = 0; i < half; i++) {
          const first = start + (interleaved ? 2 * i : i);
          const second = interleaved ? first + 1 : first + half;
          const angle = token * half + i;
          const sine = direction * s[angle];
          result[first] = values[first] * c[angle] - values[second] * sine;
          result[second] = values[second] * c[angle] + values[first] * sine;
        }
      }
    }
    store(out, result);
  }

  gated(activation: GateActivation, out: Operand, gate: Operand, up: Operand): void {
    const other = valuesOf(up);
    store(
      out,
      Float64Array.from(valuesOf(gate), (x, i) => GATE[activation](x) * other[i]),
    );
  }

  attention(call: AttentionCall): void {
    attention(call);
  }

  chooseExperts(call: ExpertChoice): void {
    experts.chooseExperts(call);
  }

  expertLinear(call: ExpertLinearCall): void {
    experts.expertLinear(call);
  }

  random(out: Operand, call: RandomCall): void {
    store(
      out,
      Float64Array.from({ length: sizeOf(out.shape) }, (_, i) => randomValue(call, i)),
    );
  }

  unaryBackward(op: UnaryOp, dX: Operand, x: Operand, dOut: Operand): void {
    backward.unaryBackward(op, dX, x, dOut);
  }

  gatedBackward(...args: Parameters<Backend['gatedBackward']>): void {
    backward.gatedBackward(...args);
  }

  linearBackward(
    dX: Operand | undefined,
    x: Operand,
    rows: number,
    inFeatures: number,
    parts: readonly LinearBackwardPart[],
  ): void {
    backward.linearBackward(dX, x, rows, inFeatures, parts);
  }

  normBackward(call: NormBackwardCall): void {
    backward.normBackward(call);
  }

  embeddingBackward(dTable: Operand, ids: Operand, dOut: Operand): void {
    backward.embeddingBackward(dTable, ids, dOut);
  }

  crossEntropy(...args: Parameters<Backend['crossEntropy']>): void {
    backward.crossEntropy(...args);
  }

  crossEntropyBackward(...args: Parameters<Backend['crossEntropyBackward']>): void {
    backward.crossEntropyBackward(...args);
  }

  attentionBackward(call: AttentionBackwardCall): void {
    attentionBackward(call);
  }

  expertLinearBackward(call: ExpertLinearBackwardCall): void {
    experts.expertLinearBackward(call);
  }

  sumOfSquares(out: Operand, xs: readonly Operand[]): void {
    backward.sumOfSquares(out, xs);
  }

  adamw(call: AdamwCall): void {
    backward.adamw(call);
  }
}
