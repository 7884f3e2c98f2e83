/**
 * A turn of the event loop: timers, sockets and abort signals are served, then the caller goes on. `setTimeout` would cost a
 * millisecond (four in a browser) each time, a promise alone gives no turn at all.
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
