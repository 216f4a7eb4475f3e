import { describe, expect, it } from 'vitest';

import { Finder, marked, maxMatches } from './search';

/** found looks through a text that comes in pieces of so many bytes. */
function found(text: string, wanted: string, piece = 1 << 16): Finder {
  const bytes = new TextEncoder().encode(text);
  const finder = new Finder(wanted);
  for (let at = 0; at < bytes.length; at += piece) finder.push(bytes.subarray(at, at + piece));
  finder.end();
  expect(finder.bytes).toBe(bytes.length);
  return finder;
}

describe('a search', () => {
  it.each([1, 2, 3, 7, 1000])('finds every match, with its line and place, in pieces of %i', (piece) => {
    const { matches, count } = found('one\nTwo tWo\n\n\x1b[31mt\x1b[0mwo ü\nend two', 'two', piece);
    expect(count).toBe(4);
    expect(matches.map(({ line, at, text }) => [line, at, text])).toEqual([[2, 4, 'Two tWo'], [2, 4, 'Two tWo'], [4, 13, 'two ü'], [5, 29, 'end two']]);
  });

  it('finds what is in a line without end, also where its parts meet', () => {
    const text = 'x'.repeat(65_530) + 'needle' + 'ü'.repeat(50_000) + 'needle' + 'y'.repeat(200_000) + 'Needle';
    for (const piece of [1000, 65_536, 1 << 20]) expect(found(text, 'needle', piece).count).toBe(3);
    expect(found('a'.repeat(300_000), 'aa').count).toBeGreaterThan(149_000);
  });

  it('keeps the first matches and counts the others', () => {
    const { matches, count } = found('hit\n'.repeat(10_000), 'hit');
    expect([matches.length, count, matches.at(-1)?.line]).toEqual([maxMatches, 10_000, maxMatches]);
  });

  it('shows what is around a match, without what would move it', () => {
    const { matches } = found('a'.repeat(500) + '\rneedle\b' + 'b'.repeat(500), 'needle');
    expect(matches[0]?.text).toMatch(/^a{59} needle b{159}$/);
  });

  it('finds nothing in nothing', () => {
    expect(found('', 'x').count).toBe(0);
    expect(found('abc\n', 'x').count).toBe(0);
  });
});

describe('marks', () => {
  it('are what was found, whatever its case', () => {
    expect(marked('a B ab', 'b')).toEqual([
      { text: 'a ', hit: false }, { text: 'B', hit: true }, { text: ' a', hit: false }, { text: 'b', hit: true },
    ]);
    expect(marked('abc', '')).toEqual([{ text: 'abc', hit: false }]);
    expect(marked('', 'x')).toEqual([]);
    expect(marked('xxxx', 'x', 1).at(-1)).toEqual({ text: 'xx', hit: false });
  });
});
