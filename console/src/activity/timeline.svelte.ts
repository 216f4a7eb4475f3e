// What has happened in a sandbox: what its stream tells from now on, and what was before, once somebody asks.

import { Backoff, sleep } from '../api/backoff';
import { isFinal, past } from '../api/follow';
import { problemOf } from '../api/http';
import type { StreamLine } from '../api/types';
import { Bounded } from '../store';

export class Timeline {
  /** rev grows with what is known, once a frame. */
  rev = $state(0);

  private before = new Bounded<StreamLine>(200, 2000);
  private since = new Bounded<StreamLine>(200, 2000);
  private standing = -1; // number of the newest event before the stream began
  private wanted = false; // what was before
  private frame = 0;

  constructor(
    private readonly sandbox: string,
    private readonly signal: AbortSignal,
  ) {}

  /** events are those that are known, the oldest first; between them some may be hidden. */
  get events(): StreamLine[] {
    return [this.before, this.since].flatMap((part) => [...part.head, ...part.tail]);
  }

  get hidden(): number {
    return this.before.hidden + this.since.hidden;
  }

  /** begins says where the stream stands when it begins. */
  begins(standing: number): void {
    this.standing = standing;
    if (this.wanted) void this.load();
  }

  take(line: StreamLine): void {
    this.since.push(line);
    this.grown();
  }

  /** remember has what was before loaded. */
  remember(): void {
    if (this.wanted) return;
    this.wanted = true;
    if (this.standing >= 0) void this.load();
  }

  /** clear forgets all: the numbers begin anew. */
  clear(): void {
    this.standing = 0;
    this.before.clear();
    this.since.clear();
    this.grown();
  }

  private async load(): Promise<void> {
    const backoff = new Backoff();
    while (!this.signal.aborted) {
      try {
        await past(this.sandbox, this.standing, (batch) => this.add(batch), this.signal);
        return;
      } catch (e) {
        this.before.clear();
        if (isFinal(problemOf(e))) return; // the stream says what is wrong
        await sleep(backoff.next(), this.signal);
      }
    }
  }

  private add(batch: StreamLine[]): void {
    for (const line of batch) this.before.push(line);
    this.grown();
  }

  private grown(): void {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.rev++;
    });
  }
}
