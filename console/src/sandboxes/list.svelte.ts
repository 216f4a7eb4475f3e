import { sandboxes } from '../api/client';
import { problemOf, type Problem } from '../api/http';
import type { Sandbox } from '../api/types';

/** every is how often the list is asked for while the page is looked at, in milliseconds. */
const every = 3000;

/** maxListed is how many sandboxes are shown; who has more filters on the server. */
export const maxListed = 1000;

/** List is the sandboxes that there are, kept up to date while it is open. */
export class List {
  all = $state.raw<Sandbox[] | null>(null);
  more = $state(false);
  problem = $state.raw<Problem | null>(null);
  now = $state(Date.now());
  hidden = $state.raw<ReadonlySet<string>>(new Set()); // about to be deleted

  private readonly stop = new AbortController();
  private timer = 0;

  open(): () => void {
    const clock = window.setInterval(() => (this.now = Date.now()), 1000);
    const shown = () => {
      if (document.visibilityState === 'visible') void this.refresh();
    };
    document.addEventListener('visibilitychange', shown);
    void this.refresh();
    return () => {
      this.stop.abort();
      window.clearInterval(clock);
      window.clearTimeout(this.timer);
      document.removeEventListener('visibilitychange', shown);
    };
  }

  async refresh(): Promise<void> {
    window.clearTimeout(this.timer);
    try {
      const all: Sandbox[] = [];
      let cursor: string | undefined;
      do {
        const page = await sandboxes.list(cursor, undefined, this.stop.signal);
        all.push(...page.sandboxes);
        cursor = page.next_cursor;
      } while (cursor && all.length < maxListed);
      this.all = all;
      this.more = Boolean(cursor);
      this.problem = null;
    } catch (e) {
      if (this.stop.signal.aborted) return;
      this.problem = problemOf(e);
    }
    window.clearTimeout(this.timer);
    if (document.visibilityState === 'visible' && !this.stop.signal.aborted) {
      this.timer = window.setTimeout(() => void this.refresh(), every);
    }
  }

  hide(id: string, hidden: boolean): void {
    const next = new Set(this.hidden);
    if (hidden) next.add(id);
    else next.delete(id);
    this.hidden = next;
  }
}
