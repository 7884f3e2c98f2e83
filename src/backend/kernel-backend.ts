/**
 * The backend over the C kernels, native and WASM alike: it writes each call's arguments as doubles into the host's call
 * block and runs one operation. What differs between the two (memory, files, threads) is behind `KernelHost`.
 *
 * The order of each call's arguments is documented at the operation in kernels/*.c.
 */
import { type DType, isBlockDType } from '../tensor/dtype.ts';
import { UnsupportedError } from '../tensor/errors.ts';
import { type Shape, sizeOf } from '../tensor/shape.ts';
import { addressOf, newStorage, type Storage } from '../tensor/storage.ts';
import { at, attentionLength, writeAttention } from './attention-arguments.ts';
import type {
  AdamwCall,
  AttentionBackwardCall,
  AttentionCall,
  Backend,
  BackendFile,
  BackendName,
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
import {
  BINARY_OPS,
  DTYPE_CODES,
  GATE_ACTIVATIONS,
  OP,
  RANDOM_KINDS,
  REDUCE_OPS,
  UNARY_OPS,
} from './kernel-ops.ts';
import { checkFileRange, checkRange, isCount, outOfMemory } from './memory-range.ts';

/** What a build of the kernels must offer. Addresses are numbers below 2^53; 0 is no memory. */
export interface KernelHost {
  readonly name: BackendName;
  readonly description: string;
  alloc(byteLength: number): number;
  free(address: number, byteLength: number): void;
  /** Tells the garbage collector of bytes that it is to free; negative: no longer. */
  reportExternalMemory(byteLength: number): void;
  read(address: number, byteLength: number): Uint8Array<ArrayBuffer>;
  write(address: number, bytes: Uint8Array): void;
  /** The call block with room for `length` doubles. Ask anew for each call: memory may have moved. */
  block(length: number): Float64Array;
  /** Runs the operation on the block. */
  run(op: number): void;
  openFile(path: string): {
    size: number;
    map(byteOffset: number, byteLength: number): MappedBytes;
    close(): void;
  };
  setThreads(threads: number): void;
}

/** Bytes of a file in the host's memory, and how to let go of them. */
export interface MappedBytes {
  readonly address: number;
  free(): void;
}

export class KernelBackend implements Backend {
  readonly name: BackendName;
  readonly #host: KernelHost;
  /** Storages that are parts of mapped files; the rest came from `alloc`. */
  readonly #mapped = new WeakMap<Storage, MappedBytes>();

  constructor(host: KernelHost) {
    this.name = host.name;
    this.#host = host;
  }

  get description(): string {
    return this.#host.description;
  }

  allocate(byteLength: number): Storage {
    const address = isCount(byteLength) ? this.#host.alloc(byteLength) : 0;
    if (address === 0) throw outOfMemory(this.name, byteLength);
    return newStorage(this, byteLength, address);
  }

  free(storage: Storage): void {
    const mapped = this.#mapped.get(storage);
    if (mapped) {
      mapped.free();
      return;
    }
    this.#host.free(addressOf(storage), storage.byteLength);
  }

  reportExternalMemory(storage: Storage, sign: 1 | -1): void {
    if (!this.#mapped.has(storage)) this.#host.reportExternalMemory(sign * storage.byteLength);
  }

  read(storage: Storage, byteOffset: number, byteLength: number): Uint8Array<ArrayBuffer> {
    checkRange('read', storage, byteOffset, byteLength);
    return this.#host.read(addressOf(storage) + byteOffset, byteLength);
  }

  write(storage: Storage, bytes: Uint8Array, byteOffset = 0): void {
    checkRange('write', storage, byteOffset, bytes.byteLength);
    this.#host.write(addressOf(storage) + byteOffset, bytes);
  }

  openFile(path: string): BackendFile {
    const file = this.#host.openFile(path);
    let closed = false;
    return {
      size: file.size,
      storage: (byteOffset, byteLength) => {
        if (closed) throw new Error(`${path}: read after close()`);
        checkFileRange(path, file.size, byteOffset, byteLength);
        const mapped = file.map(byteOffset, byteLength);
        const storage = newStorage(this, byteLength, mapped.address);
        this.#mapped.set(storage, mapped);
        return storage;
      },
      close() {
        if (!closed) file.close();
        closed = true;
      },
    };
  }

  setThreads(threads: number): void {
    this.#host.setThreads(threads);
  }

  fill(out: Operand, value: number): void {
    this.#run(OP.fill, [at(out), this.#code('fill', out), sizeOf(out.shape), value]);
  }

  convert(out: Operand, outOffset: number, x: Operand, xOffset: number, count: number): void {
    const encodes = out.dtype === 'q8_0' && x.dtype === 'f32';
    if (isBlockDType(out.dtype) && out.dtype !== x.dtype && !encodes) {
      throw new UnsupportedError('convert', `${x.dtype} to ${out.dtype}`, this.name);
    }
    const from = this.#code('convert', x);
    this.#run(OP.convert, [at(out), this.#code('convert', out), outOffset, at(x), from, xOffset, count]);
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
    const bytes =
      x.dtype === 'f16' || x.dtype === 'bf16' ? 2 : x.dtype === 'u8' || x.dtype === 'bool' ? 1 : 4;
    const head = [at(out), outOffset, at(x), xOffset, bytes, shape.length];
    this.#run(OP.copy_strided, [...head, ...shape, ...outStrides, ...xStrides]);
  }

  unary(op: UnaryOp, out: Operand, x: Operand): void {
    this.#f32(op, out, x);
    this.#run(OP.unary, [UNARY_OPS.indexOf(op), at(out), at(x), sizeOf(out.shape)]);
  }

  binary(
    op: BinaryOp,
    out: Operand,
    a: Operand,
    aStrides: readonly number[],
    b: Operand,
    bStrides: readonly number[],
  ): void {
    this.#f32(op, out, a, b);
    const rank = out.shape.length;
    const block = this.#host.block(5 + 3 * rank);
    block.set([BINARY_OPS.indexOf(op), at(out), at(a), at(b), rank]);
    block.set(out.shape, 5);
    block.set(aStrides, 5 + rank);
    block.set(bStrides, 5 + 2 * rank);
    this.#host.run(OP.binary);
  }

  reduce(op: ReduceOp, out: Operand, x: Operand, outer: number, n: number, inner: number): void {
    this.#f32(op, out, x);
    this.#run(OP.reduce, [REDUCE_OPS.indexOf(op), at(out), at(x), outer, n, inner]);
  }

  softmax(out: Operand, x: Operand, rows: number, n: number): void {
    this.#f32('softmax', out, x);
    this.#run(OP.softmax, [at(out), at(x), rows, n]);
  }

  matmul(out: Operand, a: Operand, b: Operand, dims: Parameters<Backend['matmul']>[3]): void {
    this.#f32('matmul', out, a, b);
    const { batch, M, N, K, transposeA, transposeB, aBatchStride, bBatchStride } = dims;
    const shape = [batch, M, N, K, Number(transposeA), Number(transposeB), aBatchStride, bBatchStride];
    this.#run(OP.matmul, [at(out), at(a), at(b), ...shape]);
  }

  linear(x: Operand, rows: number, inFeatures: number, parts: readonly LinearPart[]): void {
    this.#f32('linear', x);
    let i = 4;
    const block = this.#host.block(i + 5 * parts.length);
    block.set([at(x), rows, inFeatures, parts.length]);
    for (const { weight, bias, out } of parts) {
      this.#f32('linear', out, bias);
      block[i++] = at(weight);
      block[i++] = this.#code('linear', weight);
      block[i++] = weight.shape[0];
      block[i++] = at(bias);
      block[i++] = at(out);
    }
    this.#host.run(OP.linear);
  }

  embedding(out: Operand, table: Operand, ids: Operand): void {
    this.#f32('embedding', out);
    const dim = out.shape.at(-1) as number;
    this.#run(OP.embedding, [
      at(out),
      at(table),
      this.#code('embedding', table),
      dim,
      at(ids),
      sizeOf(ids.shape),
    ]);
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
    this.#f32('rmsNorm', out, x, weight);
    this.#run(OP.rms_norm, [at(out), at(x), rows, n, at(weight), eps, weightOffset]);
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
    this.#f32('layerNorm', out, x, weight, bias);
    this.#run(OP.layer_norm, [at(out), at(x), rows, n, at(weight), at(bias), eps]);
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
    this.#f32('rope', out, x, cos, sin);
    const block = this.#host.block(10);
    block.set([at(out), at(x), tokens, heads, headDim, at(cos), at(sin), half]);
    block.set([Number(interleaved), direction], 8);
    this.#host.run(OP.rope);
  }

  gated(activation: GateActivation, out: Operand, gate: Operand, up: Operand): void {
    this.#f32('gated', out, gate, up);
    this.#run(OP.gated, [GATE_ACTIVATIONS.indexOf(activation), at(out), at(gate), at(up), sizeOf(out.shape)]);
  }

  attention(call: AttentionCall): void {
    this.#f32('attention', call.out, call.query, call.sinks, call.bias?.operand);
    this.#f32('attention', call.logSumExp?.operand, call.logSumExp?.rest);
    const block = this.#host.block(attentionLength(call));
    writeAttention(block, 0, call, (dtype) => this.#code('attention', { dtype }));
    this.#host.run(OP.attention);
  }

  chooseExperts(call: ExpertChoice): void {
    const { scores, bias, values } = call;
    this.#f32('chooseExperts', scores, bias, values);
    this.#run(OP.choose_experts, [
      ...[at(scores), call.rows, call.numExperts, at(bias), call.groups, call.keptGroups, call.best],
      ...[call.count, at(values), at(call.ids)],
    ]);
  }

  expertLinear(call: ExpertLinearCall): void {
    const { x, pairs, each, inFeatures, ids, numExperts, transposed, parts } = call;
    this.#f32('expertLinear', x);
    const args = [at(x), pairs, each, inFeatures, at(ids), numExperts, Number(transposed), parts.length];
    for (const { weights, biases, outFeatures, out } of parts) {
      this.#f32('expertLinear', out, ...(biases ?? []));
      args.push(this.#code('expertLinear', weights[0]), outFeatures, at(out));
      for (let e = 0; e < numExperts; e++) args.push(at(weights[e]), at(biases?.[e]));
    }
    this.#run(OP.expert_linear, args);
  }

  random(out: Operand, call: RandomCall): void {
    const { key, minval, maxval, factor, low, high, scale } = call;
    const head = [RANDOM_KINDS.indexOf(call.kind), at(out), sizeOf(out.shape), key[0], key[1]];
    this.#run(OP.random, [...head, minval, maxval, factor, low, high, scale]);
  }

  unaryBackward(op: UnaryOp, dX: Operand, x: Operand, dOut: Operand): void {
    this.#f32(op, dX, x, dOut);
    this.#run(OP.unary_backward, [UNARY_OPS.indexOf(op), at(dX), at(x), at(dOut), sizeOf(x.shape)]);
  }

  gatedBackward(
    activation: GateActivation,
    dGate: Operand,
    dUp: Operand,
    gate: Operand,
    up: Operand,
    dOut: Operand,
  ): void {
    this.#f32('gated', dGate, dUp, gate, up, dOut);
    const operands = [dGate, dUp, gate, up, dOut].map(at);
    this.#run(OP.gated_backward, [GATE_ACTIVATIONS.indexOf(activation), ...operands, sizeOf(gate.shape)]);
  }

  linearBackward(
    dX: Operand | undefined,
    x: Operand,
    rows: number,
    inFeatures: number,
    parts: readonly LinearBackwardPart[],
  ): void {
    this.#f32('linearBackward', dX, x);
    let i = 5;
    const block = this.#host.block(i + 4 * parts.length);
    block.set([at(dX), at(x), rows, inFeatures, parts.length]);
    for (const { weight, dOut, dWeight } of parts) {
      this.#f32('linearBackward', weight, dOut, dWeight);
      block[i++] = at(weight);
      block[i++] = weight.shape[0];
      block[i++] = at(dOut);
      block[i++] = at(dWeight);
    }
    this.#host.run(OP.linear_backward);
  }

  normBackward(call: NormBackwardCall): void {
    const { dOut, x, weight, dX, dWeight, dBias } = call;
    this.#f32('normBackward', dOut, x, weight, dX, dWeight, dBias);
    const { centred, rows, n, eps, weightOffset } = call;
    const block = this.#host.block(11);
    block.set([Number(centred), at(dOut), at(x), rows, n, at(weight), eps, weightOffset]);
    block.set([at(dX), at(dWeight), at(dBias)], 8);
    this.#host.run(OP.norm_backward);
  }

  embeddingBackward(dTable: Operand, ids: Operand, dOut: Operand): void {
    this.#f32('embeddingBackward', dTable, dOut);
    const [V, D] = dTable.shape;
    this.#run(OP.embedding_backward, [at(dTable), V, D, at(ids), sizeOf(ids.shape), at(dOut)]);
  }

  crossEntropy(
    loss: Operand,
    sums: Operand,
    logits: Operand,
    labels: Operand,
    rows: number,
    n: number,
  ): void {
    this.#f32('crossEntropy', loss, sums, logits);
    this.#run(OP.cross_entropy, [at(loss), at(sums), at(logits), at(labels), rows, n]);
  }

  crossEntropyBackward(
    dLogits: Operand,
    logits: Operand,
    sums: Operand,
    labels: Operand,
    dLoss: Operand,
    rows: number,
    n: number,
  ): void {
    this.#f32('crossEntropyBackward', dLogits, logits, sums, dLoss);
    const operands = [dLogits, logits, sums, labels, dLoss].map(at);
    this.#run(OP.cross_entropy_backward, [...operands, rows, n]);
  }

  attentionBackward(call: AttentionBackwardCall): void {
    const { dOut, dLogSumExp, dQuery, dKey, dValue, dBias, dSinks } = call;
    const head = [dOut, dLogSumExp, dQuery, dKey, dValue, dBias, dSinks];
    this.#f32('attentionBackward', ...head);
    const first = head.length + 3;
    const block = this.#host.block(first + attentionLength(call.forward));
    for (let i = 0; i < head.length; i++) block[i] = at(head[i]);
    block[head.length] = call.dKeyBatchStride;
    block[head.length + 1] = call.dValueBatchStride;
    block[head.length + 2] = dBias ? sizeOf(dBias.shape) : 0;
    writeAttention(block, first, call.forward, (dtype) => this.#code('attention', { dtype }));
    this.#host.run(OP.attention_backward);
  }

  expertLinearBackward(call: ExpertLinearBackwardCall): void {
    const { x, dOut, pairs, each, inFeatures, outFeatures, ids, numExperts, transposed } = call;
    this.#f32('expertLinearBackward', x, dOut, ...call.dWeights, ...call.dBiases);
    const args = [at(x), at(dOut), pairs, each, inFeatures, outFeatures, at(ids), numExperts];
    args.push(Number(transposed));
    for (let e = 0; e < numExperts; e++) args.push(at(call.dWeights[e]), at(call.dBiases[e]));
    this.#run(OP.expert_linear_backward, args);
  }

  sumOfSquares(out: Operand, xs: readonly Operand[]): void {
    this.#f32('sumOfSquares', out);
    let i = 2;
    const block = this.#host.block(i + 2 * xs.length);
    block.set([at(out), xs.length]);
    for (const x of xs) {
      this.#f32('sumOfSquares', x);
      block[i++] = at(x);
      block[i++] = sizeOf(x.shape);
    }
    this.#host.run(OP.sum_of_squares);
  }

  adamw(call: AdamwCall): void {
    const { gradientScale, learningRate, b1, b2, eps, step, parts } = call;
    this.#f32('adamw', gradientScale);
    const head = [at(gradientScale), learningRate, b1, b2, eps, 1 - b1 ** step, 1 - b2 ** step, parts.length];
    let i = head.length;
    const block = this.#host.block(i + 6 * parts.length);
    block.set(head);
    for (const { parameter, gradient, m, v, weightDecay } of parts) {
      this.#f32('adamw', parameter, gradient, m, v);
      block[i++] = at(parameter);
      block[i++] = sizeOf(parameter.shape);
      block[i++] = at(gradient);
      block[i++] = at(m);
      block[i++] = at(v);
      block[i++] = weightDecay;
    }
    this.#host.run(OP.adamw);
  }

  #run(op: number, args: number[]): void {
    this.#host.block(args.length).set(args);
    this.#host.run(op);
  }

  #code(op: string, { dtype }: { dtype: DType }): number {
    const code = DTYPE_CODES[dtype];
    if (code === undefined) throw new UnsupportedError(op, dtype, this.name);
    return code;
  }

  #f32(op: string, ...operands: (Operand | undefined)[]): void {
    for (const operand of operands) {
      if (operand && operand.dtype !== 'f32') throw new UnsupportedError(op, operand.dtype, this.name);
    }
  }
}
