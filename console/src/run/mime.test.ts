import { describe, expect, it } from 'vitest';

import { asText, formsOf, imageOf, tableOf } from './mime';

describe('forms', () => {
  it('are those that can be shown, the richest that is safe first', () => {
    const data = { 'text/plain': 'x', 'text/html': '<b>x</b>', 'image/png': 'AA==', 'application/vnd.k2.table+json': {}, 'application/x-unknown': 1 };
    expect(formsOf(data).map((f) => f.type)).toEqual(['application/vnd.k2.table+json', 'image/png', 'text/html', 'text/plain']);
  });

  it('are JSON for what is JSON of a kind that is not known', () => {
    expect(formsOf({ 'application/vnd.unknown.v1+json': {}, 'text/plain': 'x' }).map((f) => [f.type, f.form])).toEqual([
      ['text/plain', 'text'],
      ['application/vnd.unknown.v1+json', 'json'],
    ]);
  });
});

describe('a value', () => {
  it('is text, lines or JSON', () => {
    expect([asText('a'), asText(['a\n', 'b']), asText({ a: 1 })]).toEqual(['a', 'a\nb', '{\n  "a": 1\n}']);
  });

  it('is an image only where it is base64, or SVG', async () => {
    expect(await imageOf('image/png', 'aGk=\n')?.text()).toBe('hi');
    expect(imageOf('image/png', '<svg>')).toBeNull();
    expect(imageOf('image/svg+xml', '<svg/>')?.type).toBe('image/svg+xml');
  });

  it('is a table only where it has columns and rows', () => {
    const table = { columns: [{ name: 'a', dtype: 'int64' }], rows: [[1], [2]], row_count: 5 };
    expect(tableOf(table)).toEqual({ columns: [{ name: 'a', dtype: 'int64' }], rows: [[1], [2]], total: 5 });
    for (const hostile of [null, 'x', {}, { columns: 1, rows: [] }, { columns: [], rows: [1] }]) expect(tableOf(hostile)).toBeNull();
  });
});
