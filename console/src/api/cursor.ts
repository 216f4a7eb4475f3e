// Where a client stands in a sandbox's stream. The rule is that of Cursor.Advance in api/stream.go: both sides
// move the cursor by it, so that what was lost on the way is sent again, and nothing twice.

import type { Source, StreamLine } from './types';

export class Cursor {
  epoch = '';
  timeline = 0;
  logs = new Map<string, number>();

  static parse(text: string): Cursor {
    const c = new Cursor();
    for (const [i, part] of text.split(',').entries()) {
      const at = part.lastIndexOf(':');
      const name = at < 0 ? '' : part.slice(0, at);
      const digits = part.slice(at + 1);
      const n = Number(digits);
      if (!/^\d+$/.test(digits) || !Number.isSafeInteger(n) || (i > 0 && name === '')) throw new Error(`no cursor: ${text.slice(0, 200)}`);
      if (i > 0) c.logs.set(name, n);
      else {
        c.epoch = name;
        c.timeline = n;
      }
    }
    return c;
  }

  toString(): string {
    const logs = [...this.logs].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)).map(([id, n]) => `,${id}:${n}`);
    return `${this.epoch === '' ? '' : this.epoch + ':'}${this.timeline}${logs.join('')}`;
  }

  /** advance moves it behind a line; follows says which logs the stream follows as they begin. */
  advance(line: StreamLine, follows: (source: Source) => boolean): void {
    if (line.type === 'ping') return;
    switch (line.source) {
      case 'stream':
        if (line.cursor) {
          const now = Cursor.parse(line.cursor);
          this.epoch = now.epoch;
          this.timeline = now.timeline;
          this.logs = now.logs;
        }
        return;
      case 'timeline': {
        this.timeline = line.seq;
        const id = began(line, follows);
        if (id !== '' && !this.logs.has(id)) this.logs.set(id, 0);
        return;
      }
      case 'execution':
      case 'process':
        if (line.id === undefined) return;
        if (line.type === 'end') this.logs.delete(line.id);
        else this.logs.set(line.id, line.seq);
    }
  }
}

/** began returns the run or process that begins with a line of the timeline, if it is followed. */
function began(line: StreamLine, follows: (source: Source) => boolean): string {
  if (line.type === 'run_submitted' && follows('execution')) return line.execution_id ?? '';
  if (line.type === 'process_started' && follows('process')) return String(line.pid ?? '');
  return '';
}
