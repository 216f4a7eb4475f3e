// Lines of JSON out of a body that comes in pieces.

import type { StreamLine } from './types';

/** maxLine bounds a line, in characters: what is longer is not kept in memory. */
export const maxLine = 300 << 20;

/** Splitter cuts text into lines, however it comes. */
export class Splitter {
  private parts: string[] = [];
  private size = 0;

  /** push returns the lines that are complete now. */
  push(piece: string): string[] {
    const lines = piece.split('\n');
    const last = lines.pop() ?? '';
    if (lines.length > 0) {
      lines[0] = this.parts.join('') + lines[0];
      this.parts = [];
      this.size = 0;
    }
    if (last !== '') {
      this.parts.push(last);
      this.size += last.length;
    }
    if (this.size > maxLine) throw new RangeError('a line of the stream is too long');
    return lines.filter((line) => line !== '');
  }
}

/** lines yields those of a body as batches: all that came together. A line that is cut at the end is left out. */
export async function* lines(body: ReadableStream<Uint8Array>, alive: () => void): AsyncGenerator<StreamLine[]> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const splitter = new Splitter();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      alive();
      const batch = splitter.push(decoder.decode(value, { stream: true })).map((line) => JSON.parse(line) as StreamLine);
      if (batch.length > 0) yield batch;
    }
  } finally {
    void reader.cancel().catch(() => undefined);
  }
}
