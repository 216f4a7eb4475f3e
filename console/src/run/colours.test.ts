import { describe, expect, it } from 'vitest';

import { coloured, maxPieces } from './colours';

const kinds = (code: string) => coloured(code).filter(({ kind }) => kind !== '').map(({ text, kind }) => `${kind}: ${text}`);

describe('colours', () => {
  it('are those of Python', () => {
    expect(kinds('async def f(self):  # why\n    return [None, 0x1f, True] if f"a{1}b" else "c" not in x')).toEqual([
      'keyword: async', 'keyword: def', 'comment: # why', 'keyword: return', 'number: None', 'number: 0x1f', 'number: True', 'keyword: if', 'string: f"a{1}b"', 'keyword: else',
      'string: "c"', 'keyword: not', 'keyword: in',
    ]);
  });

  it.each(['', 'x', '%%bash\nls "', '!ls | grep "a', 'def (((', '"""never\nclosed', 'a = 1\r\n', 'x = "ü😀" # é', 'if '.repeat(5000), '"a" + '.repeat(50_000)])('leave the code as it is: %.20j', (code) => {
    const pieces = coloured(code);
    expect(pieces.map(({ text }) => text).join('')).toBe(code);
    expect(pieces.length).toBeLessThanOrEqual(maxPieces);
  });
});
