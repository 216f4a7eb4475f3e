/** Backoff says how long to wait before the next try: from 0.25 s to 10 s, each a bit different, so that not all come back at once. */
export class Backoff {
  private tries = 0;

  next(random = Math.random): number {
    const most = Math.min(10_000, 250 * 2 ** this.tries);
    this.tries = Math.min(this.tries + 1, 10);
    return most * (0.5 + random() / 2);
  }

  reset(): void {
    this.tries = 0;
  }
}

/** sleep resolves after some milliseconds, or at once when the signal is aborted or the browser is online again. */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      globalThis.removeEventListener?.('online', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
    globalThis.addEventListener?.('online', done);
  });
}
