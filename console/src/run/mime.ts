// Which form of a result is shown: the richest that is safe, and that a page can show.

import type { Bundle } from '../api/types';

export type Form = 'table' | 'image' | 'html' | 'markdown' | 'json' | 'text';

/** known are the types that can be shown, the best first. */
const known: [string, Form][] = [
  ['application/vnd.k2.table+json', 'table'],
  ['image/svg+xml', 'image'],
  ['image/png', 'image'],
  ['image/jpeg', 'image'],
  ['image/gif', 'image'],
  ['image/webp', 'image'],
  ['text/html', 'html'],
  ['text/markdown', 'markdown'],
  ['application/json', 'json'],
  ['text/latex', 'text'],
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

/** tableOf reads the engine's own table; null where it is none. */
export function tableOf(value: unknown): Table | null {
  if (typeof value !== 'object' || value === null) return null;
  const { columns, rows, dtypes, total, row_count } = value as Record<string, unknown>;
  if (!Array.isArray(columns) || !Array.isArray(rows) || !rows.every(Array.isArray)) return null;
  const all = [total, row_count].find((n): n is number => typeof n === 'number');
  return {
    columns: columns.map((c: unknown, i) => {
      if (typeof c === 'object' && c !== null) return { name: String((c as { name?: unknown }).name ?? i), dtype: String((c as { dtype?: unknown }).dtype ?? '') };
      return { name: String(c), dtype: Array.isArray(dtypes) ? String(dtypes[i] ?? '') : '' };
    }),
    rows: rows as unknown[][],
    total: all ?? rows.length,
  };
}
