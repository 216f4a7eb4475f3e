// A line of output: pieces of text, each of one style, that can be written over.

import { plain, type Style } from './style';

export interface Piece {
  text: string;
  style: Style;
}

/** maxLine is how many characters of a line are kept; of more there is only the number. */
export const maxLine = 10_000;

/** maxPieces is how many styles a line has: with each, what is written over it costs more. What comes behind looks like the last. */
export const maxPieces = 400;

export class Line {
  pieces: Piece[] = [];
  length = 0;
  clipped = 0; // characters that are not kept
  rev = 0; // grows with each change

  /** put writes text from a column on, over what is there. */
  put(column: number, text: string, style: Style): void {
    this.rev++;
    const room = maxLine - column;
    if (text.length > room) {
      this.clipped = Math.max(this.clipped, column + text.length - maxLine);
      text = room > 0 ? (' ' + text.slice(0, room)).slice(1) : ''; // a copy: a slice would keep all of a long text in memory
    }
    if (text === '') return;
    if (column > this.length) this.append(' '.repeat(column - this.length), plain);
    if (column === this.length) return this.append(text, style);
    const after = this.cut(column + text.length, this.length);
    this.pieces = this.cut(0, column);
    this.length = column;
    this.append(text, style);
    for (const piece of after) this.append(piece.text, piece.style);
  }

  /** erase makes the columns from one to before another blank; at the end of the line it ends there. */
  erase(from: number, to: number): void {
    this.rev++;
    if (to >= this.length) {
      this.clipped = 0;
      if (from < this.length) {
        this.pieces = this.cut(0, from);
        this.length = from;
      }
    } else if (from < to) this.put(from, ' '.repeat(to - from), plain);
  }

  get text(): string {
    return this.pieces.map((p) => p.text).join('');
  }

  private append(text: string, style: Style): void {
    const last = this.pieces.at(-1);
    if (last && (last.style === style || this.pieces.length >= maxPieces)) last.text += text;
    else this.pieces.push({ text, style });
    this.length += text.length;
  }

  /** cut returns the pieces from one column to before another. */
  private cut(from: number, to: number): Piece[] {
    const cut: Piece[] = [];
    let at = 0;
    for (const { text, style } of this.pieces) {
      const part = text.slice(Math.max(from - at, 0), Math.max(to - at, 0));
      if (part !== '') cut.push({ text: part, style });
      at += text.length;
    }
    return cut;
  }
}
