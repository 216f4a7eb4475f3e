import { describe, expect, it } from 'vitest';

import { curl, go, python } from './snippets';

const what = { url: 'http://localhost:8900', sandbox: 'sb_1', context: 'default', code: `print('it''s "so"')\n😀` };

describe('a snippet', () => {
  it('of curl is one word for the shell, whatever quotes are in the code', () => {
    const body = /-d '((?:[^']|'\\'')*)'$/.exec(curl(what))?.[1]?.replaceAll(`'\\''`, "'");
    expect(JSON.parse(body ?? '')).toEqual({ code: what.code, context: 'default' });
  });

  it.each([python(what), go(what)])('has the code as a literal: %s', (text) => {
    expect(text).toContain(JSON.stringify(what.code));
    expect(text).toContain('"sb_1"');
  });

  it('has no key', () => {
    for (const text of [curl(what), go(what)]) expect(text).toContain('K2_API_KEY');
  });
});
