// What a process wrote, as its events tell.

import type { Line } from '../api/types';
import { text } from '../text';

const decoder = new TextDecoder();

/** written is the text of an event; "" where it has none. Bytes that are no UTF-8 come as base64. */
export function written({ type, text: said, data, bytes }: Line): string {
  if (type === 'truncated') return `\n${text.run.missing(0, bytes ?? 0)}\n`;
  if (type !== 'stdout' && type !== 'stderr') return '';
  if (typeof data !== 'string') return said ?? '';
  return decoder.decode(Uint8Array.from(atob(data), (c) => c.charCodeAt(0)));
}
