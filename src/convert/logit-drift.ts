/** Compares two models' next-token distributions on a text, token by token. */

/** How a conversion changes the predictions on a text. */
export interface TextDrift {
  /** Tokens predicted. */
  readonly predicted: number;
  /** The original: mean cross-entropy in nats, and its exponential. */
  readonly before: { readonly loss: number; readonly perplexity: number };
  /** The converted model, likewise. */
  readonly after: { readonly loss: number; readonly perplexity: number };
  /** Mean of KL(before || after) over tokens, in nats. */
  readonly kl: number;
  /** Share of tokens whose likeliest next token is the same. */
  readonly topOneAgreement: number;
}

export class LogitDrift {
  #predicted = 0;
  #compared = 0;
  #lossBefore = 0;
  #lossAfter = 0;
  #kl = 0;
  #agreed = 0;

  /**
   * @param before,after logits `[T, V]`
   * @param row the T tokens; each but the first is predicted
   */
  add(before: Float32Array, after: Float32Array, row: readonly number[]): void {
    const V = before.length / row.length;
    for (let t = 0; t < row.length; t++) {
      const p = before.subarray(t * V, (t + 1) * V);
      const q = after.subarray(t * V, (t + 1) * V);
      const a = summary(p);
      const b = summary(q);
      let kl = 0;
      for (let v = 0; v < V; v++) {
        const log = p[v] - a.logSum;
        if (log > -40) kl += Math.exp(log) * (log - (q[v] - b.logSum));
      }
      this.#kl += Math.max(0, kl);
      this.#agreed += a.best === b.best ? 1 : 0;
      this.#compared++;
      if (t + 1 === row.length) continue;
      this.#lossBefore += a.logSum - p[row[t + 1]];
      this.#lossAfter += b.logSum - q[row[t + 1]];
      this.#predicted++;
    }
  }

  /** The drift on the tokens of all of them. */
  static sum(parts: readonly LogitDrift[]): LogitDrift {
    const total = new LogitDrift();
    for (const part of parts) {
      total.#predicted += part.#predicted;
      total.#compared += part.#compared;
      total.#lossBefore += part.#lossBefore;
      total.#lossAfter += part.#lossAfter;
      total.#kl += part.#kl;
      total.#agreed += part.#agreed;
    }
    return total;
  }

  result(): TextDrift {
    const loss = (sum: number) => {
      const mean = sum / this.#predicted;
      return { loss: mean, perplexity: Math.exp(mean) };
    };
    return {
      predicted: this.#predicted,
      before: loss(this.#lossBefore),
      after: loss(this.#lossAfter),
      kl: this.#kl / this.#compared,
      topOneAgreement: this.#agreed / this.#compared,
    };
  }
}

/** log(sum(exp)) of the logits of a token, and the index of the largest. */
export function summary(logits: Float32Array): { logSum: number; best: number } {
  let best = 0;
  for (let v = 1; v < logits.length; v++) if (logits[v] > logits[best]) best = v;
  let sum = 0;
  for (let v = 0; v < logits.length; v++) sum += Math.exp(logits[v] - logits[best]);
  return { logSum: logits[best] + Math.log(sum), best };
}
