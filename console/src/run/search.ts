// Where a text is in what a run wrote, which comes from the server in pieces and is not kept.

import { bare } from '../text/screen';

export interface Match {
  line: number; // counted from 1
  at: number; // byte of the output at which the line begins, or the part of a long line that was looked at
  text: string; // of the line, around what was found
}

/** maxMatches is how many matches are kept: the others are counted. */
export const maxMatches = 500;

const longest = 64 << 10; // bytes of a line that are looked at together
const before = 60; // characters that are shown around what was found
const behind = 160;

export class Finder {
  readonly matches: Match[] = [];
  count = 0;
  /** bytes were looked at. */
  bytes = 0;

  private readonly wanted: string;
  private readonly decoder = new TextDecoder();
  private line = 1;
  private rest: Uint8Array = new Uint8Array(0); // of a line whose end has not come

  /** A text is found whatever its case. */
  constructor(wanted: string) {
    this.wanted = wanted.toLowerCase();
  }

  push(piece: Uint8Array): void {
    const data = joined(this.rest, piece);
    const end = data.lastIndexOf(10) + 1;
    if (end > 0) this.lines(data.subarray(0, end));
    this.rest = data.subarray(end);
    while (this.rest.length > longest) this.part();
  }

  end(): void {
    this.look(this.decode(this.rest));
    this.bytes += this.rest.length;
    this.rest = this.rest.subarray(0, 0);
  }

  /** lines looks through whole lines: one by one only where there is something. */
  private lines(data: Uint8Array): void {
    const some = this.decode(data).toLowerCase().includes(this.wanted);
    for (let from = 0; from < data.length; ) {
      const end = data.indexOf(10, from) + 1;
      if (some) this.look(this.decode(data.subarray(from, end - 1)));
      this.bytes += end - from;
      this.line++;
      from = end;
    }
  }

  /** part looks at the first part of a line that is too long, and keeps as much of it as could be the beginning of a match. */
  private part(): void {
    const kept = longest - 4 * this.wanted.length;
    this.look(this.decode(this.rest.subarray(0, longest)), this.decode(this.rest.subarray(0, kept)).length);
    this.rest = this.rest.subarray(kept);
    this.bytes += kept;
  }

  /** look notes the matches in a line that begin before a column. */
  private look(text: string, limit = Infinity): void {
    const low = text.toLowerCase();
    for (let at = low.indexOf(this.wanted); at >= 0 && at < limit; at = low.indexOf(this.wanted, at + this.wanted.length)) {
      this.count++;
      if (this.matches.length >= maxMatches) continue;
      const from = Math.max(at - before, 0);
      this.matches.push({ line: this.line, at: this.bytes, text: text.slice(from, at + this.wanted.length + behind).replace(/[\x00-\x1f]/g, ' ') });
    }
  }

  private decode(data: Uint8Array): string {
    return bare(this.decoder.decode(data));
  }
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  if (a.length === 0) return b;
  const all = new Uint8Array(a.length + b.length);
  all.set(a);
  all.set(b, a.length);
  return all;
}

export interface Part {
  text: string;
  hit: boolean;
}

/** marked cuts a text into what was found and what is between; of too much that is found only the first. */
export function marked(text: string, wanted: string, most = 1000): Part[] {
  const parts: Part[] = [];
  const low = text.toLowerCase();
  const what = wanted.toLowerCase();
  let from = 0;
  for (let at = what === '' ? -1 : low.indexOf(what); at >= 0 && parts.length < 2 * most; at = low.indexOf(what, from)) {
    if (at > from) parts.push({ text: text.slice(from, at), hit: false });
    parts.push({ text: text.slice(at, at + wanted.length), hit: true });
    from = at + wanted.length;
  }
  if (from < text.length) parts.push({ text: text.slice(from), hit: false });
  return parts;
}
