// A directory as it is now: listed once, and again when a watch tells of changes.

import { Backoff, sleep } from '../api/backoff';
import { files } from '../api/client';
import { problemOf, send, type Problem } from '../api/http';
import { lines } from '../api/ndjson';
import { seen, whileSeen } from '../api/seen';
import type { Entry } from '../api/types';

/** maxEntries is how many entries of a directory are listed. */
export const maxEntries = 20_000;

const settle = 150; // milliseconds in which changes are taken together

export class Directory {
  entries = $state.raw<Entry[] | null>(null);
  more = $state(false); // it has more than are listed
  problem = $state.raw<Problem | null>(null);
  unwatched = $state(''); // why changes are not seen

  private readonly stop = new AbortController();
  private timer = 0;
  private listing = false;
  private again = false;

  constructor(
    readonly sandbox: string,
    readonly path: string,
  ) {}

  open(): () => void {
    void this.list();
    void this.watch();
    return () => {
      this.stop.abort();
      window.clearTimeout(this.timer);
    };
  }

  /** list lists it. Who asks meanwhile has it listed once more afterwards. */
  async list(): Promise<void> {
    if (this.listing) {
      this.again = true;
      return;
    }
    this.listing = true;
    do {
      this.again = false;
      await this.listOnce();
    } while (this.again && !this.stop.signal.aborted);
    this.listing = false;
  }

  private async listOnce(): Promise<void> {
    try {
      const all: Entry[] = [];
      let cursor: string | undefined;
      do {
        const page = await files.list(this.sandbox, this.path, cursor);
        all.push(...page.entries);
        cursor = page.next_cursor;
      } while (cursor && all.length < maxEntries && !this.stop.signal.aborted);
      if (this.stop.signal.aborted) return;
      this.entries = all.sort(order);
      this.more = Boolean(cursor);
      this.problem = null;
    } catch (e) {
      this.problem = problemOf(e);
    }
  }

  /** watch has it listed again after each change, and after each time that changes may have been missed. */
  private async watch(): Promise<void> {
    const backoff = new Backoff();
    while (!this.stop.signal.aborted) {
      await seen(this.stop.signal);
      const connection = new AbortController();
      const abort = () => connection.abort();
      this.stop.signal.addEventListener('abort', abort);
      const stay = whileSeen(abort);
      try {
        const answer = await send('GET', `${files.path(this.sandbox)}/watch`, { query: { path: this.path }, passive: true, signal: connection.signal });
        this.unwatched = '';
        void this.list(); // for what changed before the watch began
        if (!answer.body) return;
        for await (const batch of lines(answer.body, () => backoff.reset())) {
          if (batch.some((line) => line.type !== 'ping' && line.type !== 'start')) this.listSoon();
        }
      } catch (e) {
        if (this.stop.signal.aborted) return;
        if (connection.signal.aborted) continue; // nobody sees it
        const problem = problemOf(e);
        this.unwatched = problem.message;
        if (problem.status >= 400 && problem.status < 500) return; // the listing says what is wrong
      } finally {
        stay();
        this.stop.signal.removeEventListener('abort', abort);
      }
      await sleep(backoff.next(), this.stop.signal);
    }
  }

  private listSoon(): void {
    if (this.timer) return;
    this.timer = window.setTimeout(() => {
      this.timer = 0;
      void this.list();
    }, settle);
  }
}

/** order has directories first, and names as people sort them. */
const collator = new Intl.Collator(undefined, { numeric: true });
function order(a: Entry, b: Entry): number {
  return Number(b.type === 'dir') - Number(a.type === 'dir') || collator.compare(a.name, b.name);
}
