// Text as a terminal shows it: \r, \b, movements of the cursor and erasures are done, and the colours are kept. A screen
// has the first and the last lines of what was written; of those between it has the number, and the server the text.

import { Line } from './line';
import { plain, styled, type Style } from './style';

export const maxHead = 1000; // lines
export const maxTail = 1000; // lines
export const maxChars = 128 << 10; // of each of the two

const longestEscape = 4096; // characters; what is longer is no sequence, but an attack or a mistake

const control = /[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\n\t]/;

/** A whole sequence: CSI; OSC, DCS, SOS, PM and APC up to their end; anything else of two characters, or three where it chooses a set. */
const escape = /^\x1b(?:\[([\x30-\x3f]*)[\x20-\x2f]*([\x40-\x7e])|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[\x20-\x2f]+[\x30-\x7e]|[^[\]PX^_\x20-\x2f])/;

const unfinished = /^\x1b(?:\[[\x20-\x3f]*|[\]PX^_][^\x07\x1b]*\x1b?|[\x20-\x2f]*)$/;

/** bare is a text without its sequences. */
export function bare(text: string): string {
  return text.replace(/\x1b(?:\[[\x30-\x3f]*[\x20-\x2f]*[\x40-\x7e]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[\x20-\x2f]*.)?/g, '');
}

export class Screen {
  head: Line[] = [];
  tail: Line[] = []; // the last lines, of which the newest is always there once the head is full
  hidden = 0; // lines between the two
  rev = 0;

  private style: Style = plain;
  private row = 0; // of the cursor, counted from the last line upwards
  private column = 0;
  private rest = ''; // the beginning of a sequence
  private headChars = 0;
  private tailChars = 0; // about
  private headFull = false;

  constructor() {
    this.head.push(new Line());
  }

  /** write takes more text, which may begin and end anywhere. */
  write(text: string): void {
    this.rev++;
    text = this.rest + text;
    this.rest = '';
    while (text !== '') {
      const at = text.search(control);
      const run = at < 0 ? text : text.slice(0, at);
      if (run !== '') this.print(run);
      if (at < 0) return;
      text = this.control(text.slice(at));
    }
  }

  get lines(): number {
    return this.head.length + this.hidden + this.tail.length;
  }

  /** empty says that nothing was ever written that shows. */
  get empty(): boolean {
    return this.lines === 1 && this.current.length === 0;
  }

  get text(): string {
    return [...this.head, ...this.tail].map((line) => line.text).join('\n');
  }

  private get current(): Line {
    return this.line(this.row);
  }

  /** line returns the one that is so many above the last one; the cursor never leaves what is there. */
  private line(above: number): Line {
    const from = this.tail.length - 1 - above;
    const line = from >= 0 ? this.tail[from] : this.head[this.head.length + from];
    return line ?? this.head[0]!;
  }

  private print(run: string): void {
    const line = this.current;
    line.put(this.column, run, this.style);
    this.column += run.length;
  }

  /** control does what text begins with and returns what is behind it. */
  private control(text: string): string {
    switch (text[0]) {
      case '\n':
        this.newline();
        break;
      case '\r':
        this.column = 0;
        break;
      case '\b':
        this.column = Math.max(this.column - 1, 0);
        break;
      case '\t':
        this.print(' '.repeat(8 - (this.column % 8)));
        break;
      case '\x1b':
        return this.sequence(text);
    }
    return text.slice(1);
  }

  private sequence(text: string): string {
    const found = escape.exec(text);
    if (found) {
      if (found[2] !== undefined) this.csi(found[1] ?? '', found[2]);
      return text.slice(found[0].length);
    }
    if (text.length < longestEscape && unfinished.test(text)) {
      this.rest = text;
      return '';
    }
    return text.slice(1);
  }

  private csi(params: string, final: string): void {
    const n = Math.max(Number.parseInt(params, 10) || 1, 1);
    const mode = Number.parseInt(params, 10) || 0;
    switch (final) {
      case 'm':
        this.style = /^[\d;:]*$/.test(params) ? styled(this.style, params) : this.style;
        break;
      case 'A':
      case 'F':
        this.row = Math.min(this.row + n, this.reach);
        if (final === 'F') this.column = 0;
        break;
      case 'B':
      case 'E':
        this.row = Math.max(this.row - n, 0);
        if (final === 'E') this.column = 0;
        break;
      case 'C':
        this.column = Math.max(this.column, Math.min(this.column + n, 1000));
        break;
      case 'D':
        this.column = Math.max(this.column - n, 0);
        break;
      case 'G':
        this.column = Math.min(n - 1, 1000);
        break;
      case 'K':
        this.eraseLine(mode);
        break;
      case 'J':
        if (mode === 0) this.eraseBelow();
    }
  }

  /** reach is how far up the cursor may go: never into what is not kept. */
  private get reach(): number {
    return (this.hidden > 0 ? this.tail.length : this.head.length + this.tail.length) - 1;
  }

  private eraseLine(mode: number): void {
    const line = this.current;
    if (mode === 0) line.erase(this.column, Infinity);
    else if (mode === 1) line.erase(0, Math.min(this.column + 1, line.length));
    else if (mode === 2) line.erase(0, Infinity);
  }

  private eraseBelow(): void {
    this.eraseLine(0);
    for (let above = 0; above < this.row; above++) this.line(above).erase(0, Infinity);
  }

  private newline(): void {
    this.column = 0;
    if (this.row > 0) {
      this.row--;
      return;
    }
    if (!this.headFull) {
      this.headChars += weight(this.head.at(-1)!);
      this.headFull = this.head.length >= maxHead || this.headChars >= maxChars;
    }
    if (!this.headFull) {
      this.head.push(new Line());
      return;
    }
    const last = this.tail.at(-1);
    this.tailChars += last ? weight(last) : 0;
    this.tail.push(new Line());
    if (this.tail.length > maxTail + maxTail / 4 || this.tailChars > 2 * maxChars) this.trim();
  }

  /** trim forgets the oldest lines of the tail. It is called once in a while, as it looks at all of them. */
  private trim(): void {
    let keep = 0;
    let chars = 0;
    while (keep < Math.min(maxTail, this.tail.length)) {
      const more = weight(this.tail[this.tail.length - 1 - keep]!);
      if (chars + more > maxChars && keep > 0) break;
      chars += more;
      keep++;
    }
    this.tailChars = chars;
    const gone = this.tail.length - keep;
    this.tail.splice(0, gone);
    this.hidden += gone;
    this.row = Math.min(this.row, this.reach);
  }
}

/** weight is how many characters a line counts as: each change of style is a node of the page, and costs as much as some of them. */
function weight(line: Line): number {
  return line.length + 16 * Math.max(line.pieces.length - 1, 0);
}
