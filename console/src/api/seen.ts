// Browsers have six connections to a server without TLS, for all their tabs together: a page that nobody sees lets its streams go.

/** patience is how long a page that is not seen keeps them, in milliseconds. */
const patience = 10_000;

const page = () => globalThis.document as Document | undefined;
const hidden = () => page()?.visibilityState === 'hidden';

/** seen resolves when the page is seen, at once where it is, or when the signal is aborted. */
export function seen(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const look = () => {
      if (hidden() && !signal.aborted) return;
      page()?.removeEventListener('visibilitychange', look);
      signal.removeEventListener('abort', look);
      resolve();
    };
    page()?.addEventListener('visibilitychange', look);
    signal.addEventListener('abort', look);
    look();
  });
}

/** whileSeen calls leave once the page has not been seen for a while. It returns what ends that. */
export function whileSeen(leave: () => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const look = () => {
    clearTimeout(timer);
    if (hidden()) timer = setTimeout(leave, patience);
  };
  page()?.addEventListener('visibilitychange', look);
  look();
  return () => {
    clearTimeout(timer);
    page()?.removeEventListener('visibilitychange', look);
  };
}
