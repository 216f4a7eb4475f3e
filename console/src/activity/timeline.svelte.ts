// The timeline of a sandbox, from its beginning, kept up while the screen is open.

import { Cursor } from '../api/cursor';
import { follow, type Link } from '../api/follow';
import type { StreamLine } from '../api/types';
import { Bounded } from '../store';

export class Timeline {
  readonly events = new Bounded<StreamLine>(200, 2000);
  rev = $state(0);
  link = $state.raw<Link>({ state: 'connecting' });

  private frame = 0;

  constructor(private readonly sandbox: string) {}

  open(): () => void {
    const stop = new AbortController();
    void follow(
      this.sandbox,
      new Cursor(),
      { include: [] },
      {
        lines: (batch) => this.take(batch),
        link: (link) => {
          this.link = link;
        },
        restartedNow: () => this.events.clear(),
      },
      stop.signal,
    );
    return () => {
      stop.abort();
      cancelAnimationFrame(this.frame);
    };
  }

  private take(batch: StreamLine[]): void {
    for (const line of batch) if (line.source === 'timeline') this.events.push(line);
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.rev++;
    });
  }
}
