import { describe, expect, it } from 'vitest';

import { maxLine } from './line';
import { maxHead, maxTail, Screen } from './screen';

function shown(...pieces: string[]): string {
  const screen = new Screen();
  for (const piece of pieces) screen.write(piece);
  return screen.text;
}

describe('a screen', () => {
  it.each([
    ['a return writes over', ['100%\r 50%'], ' 50%'],
    ['what is longer stays', ['abcdef\rxy'], 'xycdef'],
    ['a backspace moves back', ['abc\b\bX'], 'aXc'],
    ['a line is erased', ['abcdef\r\x1b[2Kxy'], 'xy'],
    ['the rest of a line is erased', ['abcdef\x1b[3D\x1b[K'], 'abc'],
    ['the cursor goes up', ['one\ntwo\n\x1b[2AONE'], 'ONE\ntwo\n'],
    ['and down again by a line feed', ['one\ntwo\n\x1b[2AONE\n2'], 'ONE\n2wo\n'],
    ['a sequence may be cut anywhere', ['a\x1b', '[', '3', '1mb\x1b[', '0m'], 'ab'],
    ['titles and links are left out', ['\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b\x1b]8;;\x1b\\'], 'ab'],
    ['a title that never ends takes no more than its escape', ['\x1b]0;' + 'x'.repeat(5000)], ']0;' + 'x'.repeat(5000)],
    ['a tab goes to the next eighth column', ['a\tb'], 'a       b'],
    ['other controls show nothing', ['a\x00\x07\x9bb'], 'ab'],
  ])('%s', (_, pieces, want) => {
    expect(shown(...pieces)).toBe(want);
  });

  it('shows the same however its text was cut', () => {
    const text = 'x\x1b[1;31mred\x1b[0m\r\n10%\r\x1b[Kdone\b\b!\x1b[1A\x1b[38;5;200mUP\x1b]0;t\x1b\\\n';
    expect(shown(...text)).toBe(shown(text));
  });

  it('keeps the first and the last lines, and counts the others', () => {
    const screen = new Screen();
    const total = 100_000;
    for (let i = 0; i < total; i++) screen.write(`${i}\n`);
    expect(screen.head[0]?.text).toBe('0');
    expect(screen.tail.at(-2)?.text).toBe(String(total - 1));
    expect(screen.lines).toBe(total + 1);
    expect(screen.head.length).toBeLessThanOrEqual(maxHead);
    expect(screen.tail.length).toBeLessThanOrEqual(maxTail + maxTail / 4);
  });

  it('clips a line that is too long, and says by how much', () => {
    const screen = new Screen();
    for (let i = 0; i < 50; i++) screen.write('x'.repeat(1000));
    expect(screen.head[0]?.length).toBe(maxLine);
    expect(screen.head[0]?.clipped).toBe(50_000 - maxLine);
  });

  it('never moves into lines that are not kept', () => {
    const screen = new Screen();
    for (let i = 0; i < 5000; i++) screen.write(`${i}\n`);
    const before = screen.head.map((line) => line.text);
    screen.write('\x1b[99999A!');
    expect(screen.head.map((line) => line.text)).toEqual(before);
  });

  it('knows the colours', () => {
    const screen = new Screen();
    screen.write('\x1b[1;31;48;2;1;2;3ma\x1b[39mb\x1b[0mc');
    expect(screen.head[0]?.pieces).toEqual([
      { text: 'a', style: { bold: true, fg: 1, bg: '#010203' } },
      { text: 'b', style: { bold: true, bg: '#010203' } },
      { text: 'c', style: {} },
    ]);
  });
});
