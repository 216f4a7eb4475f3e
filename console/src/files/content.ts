// What a file is, by what it begins with, and how it is shown.

export type Content = { kind: 'text'; text: string } | { kind: 'image'; blob: Blob } | { kind: 'binary'; hex: string } | { kind: 'empty' };

/** maxPreview is how many bytes of a file are looked at. */
export const maxPreview = 512 << 10;

const images = ['image/png', 'image/jpeg', 'image/gif', 'image/webp', 'image/svg+xml', 'image/avif', 'image/bmp'];

export function contentOf(bytes: Uint8Array<ArrayBuffer>, type: string, whole: boolean): Content {
  if (bytes.length === 0) return { kind: 'empty' };
  const bare = type.split(';')[0]?.trim() ?? '';
  if (images.includes(bare) && whole) return { kind: 'image', blob: new Blob([bytes], { type: bare }) };
  const text = decoded(bytes, whole);
  return text === null ? { kind: 'binary', hex: hexDump(bytes.subarray(0, 4096)) } : { kind: 'text', text };
}

/** endsOf is how the lines of a text end: a page edits \n alone, and puts \r\n back. null: they are mixed, and would not stay as they are. */
export function endsOf(text: string): '\n' | '\r\n' | null {
  const bare = text.replaceAll('\r\n', '\n');
  if (bare.includes('\r')) return null;
  if (bare === text) return '\n';
  return bare.replaceAll('\n', '\r\n') === text ? '\r\n' : null;
}

/** decoded returns the bytes as UTF-8, of which the last character may be cut; null where they are no text. */
function decoded(bytes: Uint8Array, whole: boolean): string | null {
  if (bytes.subarray(0, 8192).includes(0)) return null;
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes, { stream: !whole });
  } catch {
    return null;
  }
}

export function hexDump(bytes: Uint8Array): string {
  const rows: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = [...bytes.subarray(at, at + 16)];
    const hex = row.map((b) => b.toString(16).padStart(2, '0')).join(' ');
    const text = row.map((b) => (b >= 0x20 && b < 0x7f ? String.fromCharCode(b) : '.')).join('');
    rows.push(`${at.toString(16).padStart(8, '0')}  ${hex.padEnd(47)}  ${text}`);
  }
  return rows.join('\n');
}
