import { describe, expect, it } from 'vitest';

import { findIn } from './find';

const all = ['one two one', 'Two', '', 'one'];
const lines = { length: all.length, text: (row: number) => all[row] ?? '' };

describe('a search', () => {
  it('goes from one place to the next, and around', () => {
    const places = [];
    let at = { row: 0, column: -1 };
    for (let i = 0; i < 4; i++) {
      at = findIn(lines, 'ONE', at, false) ?? at;
      places.push([at.row, at.column]);
    }
    expect(places).toEqual([[0, 0], [0, 8], [3, 0], [0, 0]]);
  });

  it('goes backwards, too', () => {
    const places = [];
    let at = { row: 0, column: 8 };
    for (let i = 0; i < 3; i++) {
      at = findIn(lines, 'one', at, true) ?? at;
      places.push([at.row, at.column]);
    }
    expect(places).toEqual([[0, 0], [3, 0], [0, 8]]);
  });

  it('finds nothing where nothing is', () => {
    for (const wanted of ['', 'three']) expect(findIn(lines, wanted, { row: 0, column: 0 }, false)).toBeNull();
    expect(findIn({ length: 0, text: () => '' }, 'x', { row: 0, column: 0 }, false)).toBeNull();
  });
});
