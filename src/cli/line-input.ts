/**
 * Lines of stdin, one at a time. In a terminal they are edited with a history (node:readline), and between them
 * the terminal is as usual, so that Ctrl-C is a signal.
 */
import { createInterface, type Interface } from 'node:readline';
import { writeNote } from './output.ts';

export class LineInput {
  /** Whether lines are typed in a terminal. */
  readonly isTerminal: boolean = process.stdin.isTTY === true && process.stdout.isTTY === true;
  readonly #lines: string[] = [];
  readonly #interface: Interface;
  #take: (() => void) | undefined;
  #closed = false;
  /** Whether the last key was a Ctrl-C on an empty line. */
  #pressed = false;

  /** @param prompt shown before a line, in a terminal */
  constructor(prompt: string) {
    this.#interface = createInterface({
      input: process.stdin,
      output: this.isTerminal ? process.stdout : undefined,
      terminal: this.isTerminal,
      prompt,
      historySize: 1000,
      removeHistoryDuplicates: true,
    });
    this.#interface.on('line', (line) => {
      this.#pressed = false;
      this.#lines.push(line);
      this.#take?.();
    });
    this.#interface.on('close', () => {
      this.#closed = true;
      this.#take?.();
    });
    this.#interface.on('SIGINT', () => this.#interrupt());
  }

  /** The next line; undefined at the end: Ctrl-D, or Ctrl-C twice. */
  async next(): Promise<string | undefined> {
    if (this.#lines.length === 0 && !this.#closed) {
      if (this.isTerminal) {
        process.stdin.setRawMode(true);
        this.#interface.prompt();
      }
      await new Promise<void>((resolve) => {
        this.#take = resolve;
      });
      this.#take = undefined;
      if (this.isTerminal) {
        this.#interface.pause();
        process.stdin.setRawMode(false);
        if (this.#closed && this.#lines.length === 0) process.stdout.write('\n');
      }
    }
    return this.#lines.shift();
  }

  close(): void {
    this.#interface.close();
  }

  #interrupt(): void {
    if (this.#interface.line !== '') {
      this.#pressed = false;
      this.#interface.write(null, { ctrl: true, name: 'e' });
      this.#interface.write(null, { ctrl: true, name: 'u' });
    } else if (this.#pressed) this.#interface.close();
    else {
      this.#pressed = true;
      process.stdout.write('\n');
      writeNote('Ctrl-C again, or Ctrl-D, ends the chat');
      this.#interface.prompt();
    }
  }
}
