/** The bench's side of a contender: a program that answers one request at a time (serve.mjs). */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export class Contender {
  #child;
  #waiting;
  #ended;
  #stderr = '';

  /** Starts `command`, whose stdin and stdout speak the protocol of serve.mjs. */
  constructor(name, [command, ...args], { env = {} } = {}) {
    this.name = name;
    this.#child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child.stdin.on('error', () => {});
    this.#child.stderr.setEncoding('utf8').on('data', (text) => {
      this.#stderr = (this.#stderr + text).slice(-2000);
    });
    const end = (reason) => {
      const last = this.#stderr.trim().split('\n').at(-1);
      this.#ended = `${name} ${reason}${last ? `: ${last}` : ''}`;
      this.#waiting?.({ error: this.#ended });
    };
    this.#child.on('error', (error) => end(`did not start (${error.message})`));
    this.#child.on('close', (code, signal) => end(`ended (${signal ?? code})`));
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      if (line.startsWith('#bench ')) this.#waiting?.(JSON.parse(line.slice(7)));
    });
  }

  /** Sends one request and resolves to its answer. @throws Error with the contender's message. */
  async ask(command, argument = {}) {
    const answer = this.#ended
      ? { error: this.#ended }
      : await new Promise((resolve) => {
          this.#waiting = resolve;
          this.#child.stdin.write(`${command} ${JSON.stringify(argument)}\n`);
        });
    this.#waiting = undefined;
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer.ok;
  }

  /** Ends the program and waits for its exit; kills it after 5 seconds. */
  async stop() {
    if (this.#ended) return;
    const closed = new Promise((resolve) => this.#child.on('close', resolve));
    this.#child.stdin.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 5000);
    await closed;
    clearTimeout(timer);
  }
}
