// Which form of a result is shown: the richest that is safe, and that a page can show.

import type { Bundle } from '../api/types';

export type Form = 'plotly' | 'vega' | 'table' | 'image' | 'html' | 'markdown' | 'json' | 'text';

/** known are the types that can be shown, the best first. */
const known: [string, Form][] = [
  ['application/vnd.plotly.v1+json', 'plotly'],
  ...[6, 5, 4, 3, 2].map((n): [string, Form] => [`application/vnd.vegalite.v${n}+json`, 'vega']),
  ...[6, 5, 4, 3].map((n): [string, Form] => [`application/vnd.vega.v${n}+json`, 'vega']),
  ['application/vnd.k2.table+json', 'table'],
  ['image/svg+xml', 'image'],
  ['image/png', 'image'],
  ['image/jpeg', 'image'],
  ['image/gif', 'image'],
  ['image/webp', 'image'],
  ['text/html', 'html'],
  ['text/markdown', 'markdown'],
  ['application/json', 'json'],
  ['text/latex', 'markdown'],
  ['text/plain', 'text'],
];

/** formsOf returns the types of a bundle that can be shown, the best first. Other JSON comes behind, as JSON. */
export function formsOf(data: Bundle): { type: string; form: Form }[] {
  const forms = known.filter(([type]) => type in data).map(([type, form]) => ({ type, form }));
  for (const type of Object.keys(data)) {
    if (/^application\/.*\bjson$/.test(type) && !forms.some((f) => f.type === type)) forms.push({ type, form: 'json' });
  }
  return forms;
}

/** asObject is a value that is JSON, which may have come as text; null where it is no object. */
export function asObject(value: unknown): object | null {
  if (typeof value === 'string') {
    try {
      value = JSON.parse(value);
    } catch {
      return null;
    }
  }
  return typeof value === 'object' ? value : null;
}

/** asText returns a value of a bundle that is text, or lines of it. */
export function asText(value: unknown): string {
  if (typeof value === 'string') return value;
  if (Array.isArray(value)) return value.map(String).join('');
  return JSON.stringify(value, null, 2) ?? '';
}

/** imageOf returns the bytes of an image, whose value is base64 unless it is SVG; null where it is neither. */
export function imageOf(type: string, value: unknown): Blob | null {
  const raw = asText(value);
  if (type === 'image/svg+xml') return new Blob([raw], { type });
  try {
    const bytes = Uint8Array.from(atob(raw.replace(/\s+/g, '')), (c) => c.charCodeAt(0));
    return new Blob([bytes], { type });
  } catch {
    return null;
  }
}

export interface Table {
  columns: { name: string; dtype?: string }[];
  rows: unknown[][];
  total: number;
}

/** tableOf reads the engine's own table, with the levels of its index as the first columns; null where it is none. */
export function tableOf(value: unknown): Table | null {
  if (typeof value !== 'object' || value === null) return null;
  const { columns, rows, index, row_count } = value as Record<string, unknown>;
  if (!Array.isArray(columns) || !Array.isArray(rows) || !rows.every(Array.isArray)) return null;
  const levels = (Array.isArray(index) ? index : []).filter((level): level is { values: unknown[] } => Array.isArray((level as { values?: unknown } | null)?.values));
  return {
    columns: [...levels.map((level) => named(level, '')), ...columns.map((column: unknown, i) => named(column, String(i)))],
    rows: (rows as unknown[][]).map((row, i) => [...levels.map((level) => level.values[i]), ...row]),
    total: typeof row_count === 'number' ? row_count : rows.length,
  };
}

function named(column: unknown, otherwise: string): { name: string; dtype: string } {
  const { name, dtype } = (typeof column === 'object' && column !== null ? column : { name: column }) as { name?: unknown; dtype?: unknown };
  return { name: String(name ?? otherwise), dtype: String(dtype ?? '') };
}
