import { describe, expect, it } from 'vitest';

import { lines, Splitter } from './ndjson';
import type { StreamLine } from './types';

/** body is one that comes in pieces of bytes. */
function body(pieces: Uint8Array[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const piece of pieces) controller.enqueue(piece);
      controller.close();
    },
  });
}

async function read(pieces: Uint8Array[]): Promise<StreamLine[]> {
  const all: StreamLine[] = [];
  for await (const batch of lines(body(pieces), () => undefined)) all.push(...batch);
  return all;
}

describe('lines', () => {
  const text = '{"seq":1,"text":"é€😀"}\n\n{"seq":2}\n{"seq":3';
  const bytes = new TextEncoder().encode(text);

  it('come whole however the bytes are cut, and what is cut off at the end does not come', async () => {
    for (let size = 1; size <= bytes.length; size++) {
      const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.slice(i * size, (i + 1) * size));
      expect(await read(pieces)).toEqual([{ seq: 1, text: 'é€😀' }, { seq: 2 }]);
    }
  });

  it('are put together from many pieces', () => {
    const splitter = new Splitter();
    expect(splitter.push('a')).toEqual([]);
    expect(splitter.push('b')).toEqual([]);
    expect(splitter.push('c\nd\ne')).toEqual(['abc', 'd']);
    expect(splitter.push('\n')).toEqual(['e']);
  });
});
