import { describe, expect, it } from 'vitest';

import { maxFolders, parentRow, rowsOf } from './tree';

describe('a tree of folders', () => {
  const children = new Map([['/', ['a', 'b']], ['/a', ['x']], ['/a/x', []], ['/b', ['y']]]);

  it('has what is open, in order', () => {
    const rows = rowsOf(new Set(['/', '/a', '/b/never']), children);
    expect(rows.map((row) => [row.path, row.level, row.open, row.index, row.siblings])).toEqual([
      ['/', 1, true, 1, 1], ['/a', 2, true, 1, 2], ['/a/x', 3, false, 1, 1], ['/b', 2, false, 2, 2],
    ]);
    expect(rowsOf(new Set(), children).map((row) => row.path)).toEqual(['/']);
  });

  it('has an open folder whose content is not known', () => {
    expect(rowsOf(new Set(['/']), new Map()).map((row) => row.path)).toEqual(['/']);
  });

  it('knows the way up', () => {
    const rows = rowsOf(new Set(['/', '/a']), children);
    expect([0, 1, 2, 3].map((at) => parentRow(rows, at))).toEqual([0, 0, 1, 0]);
  });

  it('lists the first of very many', () => {
    const rows = rowsOf(new Set(['/']), new Map([['/', Array.from({ length: maxFolders + 7 }, (_, i) => String(i))]]));
    expect([rows.length, rows.at(-1)?.more]).toEqual([maxFolders + 1, 7]);
  });
});
