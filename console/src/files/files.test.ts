import { describe, expect, it } from 'vitest';

import { contentOf } from './content';
import { crumbs, join, parent, shown } from './paths';
import { rowsIn } from './window';

const bytes = (text: string) => new TextEncoder().encode(text);

describe('content', () => {
  it('is text where it is UTF-8, of which the last character may be cut', () => {
    expect(contentOf(bytes('é'), 'application/octet-stream', true)).toEqual({ kind: 'text', text: 'é' });
    expect(contentOf(bytes('aé').slice(0, 2), 'text/plain', false)).toEqual({ kind: 'text', text: 'a' });
    expect(contentOf(bytes('aé').slice(0, 2), 'text/plain', true).kind).toBe('binary');
  });

  it('is an image only as a whole, and binary where it has a zero', () => {
    expect(contentOf(bytes('x'), 'image/png', true).kind).toBe('image');
    expect(contentOf(bytes('\0PNG'), 'image/png', false)).toEqual({ kind: 'binary', hex: expect.stringContaining('00 50 4e 47') });
    expect(contentOf(new Uint8Array(), 'text/plain', true)).toEqual({ kind: 'empty' });
  });
});

describe('paths', () => {
  it('are put together and taken apart', () => {
    expect([join('/', 'a'), join('/a', 'b/c')]).toEqual(['/a', '/a/b/c']);
    expect([parent('/'), parent('/a'), parent('/a/b')]).toEqual(['/', '/', '/a']);
    expect(crumbs('/a/b').map((c) => c.path)).toEqual(['/', '/a', '/a/b']);
  });

  it('show what would hide in a name', () => {
    expect(shown('a\u202egpj.exe\n')).toBe('a\\u202egpj.exe\\u000a');
    expect(shown('größe.txt')).toBe('größe.txt');
  });
});

describe('rows', () => {
  it('are few, however long the list', () => {
    const rows = rowsIn(10_000, 32, 160_000, 640);
    expect(rows.to - rows.from).toBeLessThan(50);
    expect(rows.above + rows.below + (rows.to - rows.from) * 32).toBe(320_000);
  });

  it('are all of a short one, and none of an empty one', () => {
    expect(rowsIn(3, 32, 0, 640)).toEqual({ from: 0, to: 3, above: 0, below: 0 });
    expect(rowsIn(0, 32, 0, 640)).toEqual({ from: 0, to: 0, above: 0, below: 0 });
    expect(rowsIn(5, 32, 9000, 640).to).toBe(5);
  });
});
