import { expect, it } from 'vitest';

import { heard, maxHeight } from './frame';

it.each([
  [{ ready: true }, { ready: true }],
  [{ height: 10.2 }, { height: 11 }],
  [{ height: 1e9 }, { height: maxHeight }],
  [{ height: -5 }, { height: 0 }],
  [{ height: NaN }, null],
  [{ height: '10' }, null],
  [{ error: 'x'.repeat(5000) }, { error: 'x'.repeat(1000) }],
  [{ link: 'https://example.org/a b' }, { link: 'https://example.org/a%20b' }],
  [{ link: 'mailto:a@example.org' }, { link: 'mailto:a@example.org' }],
  [{ link: 'javascript:alert(1)' }, null],
  [{ link: '/v1/sandboxes' }, null],
  [{ link: 'https://' + 'x'.repeat(3000) }, null],
  [{ ready: 'yes' }, null],
  [{ html: '<b>' }, null],
  ['ready', null],
  [null, null],
])('a frame says %j', (said, want) => {
  expect(heard(said)).toEqual(want);
});
