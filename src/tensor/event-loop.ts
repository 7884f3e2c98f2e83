/**
 * Yields to the event loop, so that timers, sockets and abort signals are handled. `setTimeout` would cost a
 * millisecond (four in a browser) each time; a resolved promise does not yield.
 */

type Resolve = () => void;

let channel: MessageChannel | undefined;
const waiting: Resolve[] = [];

/** Resolves in the next turn. */
export function eventLoopTurn(): Promise<void> {
  if (typeof setImmediate === 'function') return new Promise((resolve) => void setImmediate(resolve));
  if (!channel) {
    channel = new MessageChannel();
    channel.port1.onmessage = () => waiting.shift()?.();
  }
  const { port2 } = channel;
  return new Promise((resolve) => {
    waiting.push(resolve);
    port2.postMessage(0);
  });
}
