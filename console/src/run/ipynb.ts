// A notebook file as it is read (nbformat 4): its cells, and what they showed when it was saved.

import type { Bundle } from '../api/types';

export type Saved =
  | { kind: 'text'; stream: string; text: string }
  | { kind: 'display'; data: Bundle; metadata: Bundle }
  | { kind: 'error'; text: string };

export interface NotebookCell {
  kind: 'code' | 'markdown' | 'raw';
  source: string;
  outputs: Saved[];
}

/** maxNotebook is how large a notebook may be that is opened, in bytes. */
export const maxNotebook = 32 << 20;

const maxOutputs = 100; // of a cell

/** readNotebook reads the cells of a notebook. It throws an Error that says why it is none. */
export function readNotebook(text: string): NotebookCell[] {
  const file = JSON.parse(text) as { nbformat?: unknown; cells?: unknown };
  if (typeof file !== 'object' || file === null || !Array.isArray(file.cells)) throw new Error('it has no cells');
  if (file.nbformat !== 4) throw new Error(`its nbformat is ${JSON.stringify(file.nbformat) ?? 'not there'}, and not 4`);
  return file.cells.filter(isObject).map((cell) => ({
    kind: cell['cell_type'] === 'code' || cell['cell_type'] === 'markdown' ? cell['cell_type'] : 'raw',
    source: multiline(cell['source']),
    outputs: Array.isArray(cell['outputs']) ? cell['outputs'].filter(isObject).slice(0, maxOutputs).map(saved) : [],
  }));
}

function saved(output: Record<string, unknown>): Saved {
  switch (output['output_type']) {
    case 'stream':
      return { kind: 'text', stream: String(output['name']), text: multiline(output['text']) };
    case 'error':
      return { kind: 'error', text: Array.isArray(output['traceback']) ? output['traceback'].map(String).join('\n') : `${String(output['ename'])}: ${String(output['evalue'])}` };
  }
  const data = isObject(output['data']) ? output['data'] : {};
  return { kind: 'display', data, metadata: isObject(output['metadata']) ? output['metadata'] : {} };
}

/** multiline is a text, which nbformat may have as a list of lines. */
function multiline(value: unknown): string {
  return Array.isArray(value) ? value.map(String).join('') : typeof value === 'string' ? value : '';
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
