import { describe, expect, it } from 'vitest';

import { format, parse, type Route } from './route';

describe('a route', () => {
  it.each<[string, Route]>([
    ['', { at: 'sandboxes', query: {} }],
    ['#/', { at: 'sandboxes', query: {} }],
    ['#/server', { at: 'server', query: {} }],
    ['#/?q=state%3Arunning', { at: 'sandboxes', query: { q: 'state:running' } }],
    ['#/sb/sb_1', { at: 'sandbox', id: 'sb_1', screen: 'run', query: {} }],
    ['#/sb/sb_1/files?path=%2Fa%20b', { at: 'sandbox', id: 'sb_1', screen: 'files', query: { path: '/a b' } }],
    ['#/sb/a%2Fb/run', { at: 'sandbox', id: 'a/b', screen: 'run', query: {} }],
    ['#/sb/%zz/run', { at: 'sandbox', id: '%zz', screen: 'run', query: {} }],
    ['#/sb/sb_1/nothing', { at: 'unknown', path: '/sb/sb_1/nothing', query: {} }],
  ])('%s', (fragment, want) => {
    expect(parse(fragment)).toEqual(want);
    expect(parse(format(want))).toEqual(want);
  });

  it('leaves out what is empty', () => {
    expect(format({ at: 'sandbox', id: 'sb_1', screen: 'run', query: { ctx: '', run: 'r' } })).toBe('#/sb/sb_1/run?run=r');
  });
});
