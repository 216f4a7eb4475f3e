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
  [{ ready: 'yes' }, null],
  [{ html: '<b>' }, null],
  ['ready', null],
  [null, null],
])('a frame says %j', (said, want) => {
  expect(heard(said)).toEqual(want);
});
