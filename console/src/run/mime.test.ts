import { describe, expect, it } from 'vitest';

import { asObject, asText, formsOf, imageOf, tableOf } from './mime';

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

  it('are figures before what stands for them', () => {
    for (const type of ['application/vnd.plotly.v1+json', 'application/vnd.vegalite.v6+json', 'application/vnd.vega.v5+json']) {
      expect(formsOf({ 'text/html': '', 'image/png': '', [type]: {} })[0]?.type).toBe(type);
    }
  });
});

describe('a value', () => {
  it('is text, lines or JSON', () => {
    expect([asText('a'), asText(['a\n', 'b']), asText({ a: 1 })]).toEqual(['a', 'a\nb', '{\n  "a": 1\n}']);
  });

  it('is an object, or the JSON of one', () => {
    expect([asObject({ a: 1 }), asObject('{"a":1}')]).toEqual([{ a: 1 }, { a: 1 }]);
    for (const none of ['x', '1', 1, null, undefined]) expect(asObject(none)).toBeNull();
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

  it('is a table with the levels of its index before its columns', () => {
    const table = { columns: [{ name: null, dtype: 'int64' }], index: [{ name: 'day', dtype: 'object', values: ['mon', 'tue'] }, 'hostile', null], rows: [[1], [2]], row_count: 2 };
    expect(tableOf(table)).toEqual({
      columns: [{ name: 'day', dtype: 'object' }, { name: '0', dtype: 'int64' }],
      rows: [['mon', 1], ['tue', 2]],
      total: 2,
    });
  });
});
