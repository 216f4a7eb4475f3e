import type { Sandbox } from '../api/types';

/** matches reports whether a sandbox has all words of a filter: state:WORD, KEY:VALUE of the metadata, or a part of anything. */
export function matches(box: Sandbox, filter: string): boolean {
  return filter
    .toLowerCase()
    .split(/\s+/)
    .filter(Boolean)
    .every((word) => matchesWord(box, word));
}

function matchesWord(box: Sandbox, word: string): boolean {
  const [key = '', value] = word.split(/:(.*)/s);
  if (value !== undefined && key === 'state') return box.state.startsWith(value);
  const pairs = Object.entries(box.metadata).map(([k, v]) => [k.toLowerCase(), v.toLowerCase()] as const);
  if (value !== undefined && pairs.some(([k, v]) => k === key && v.includes(value))) return true;
  return [box.sandbox_id, box.template, box.state, ...pairs.flat()].some((text) => text.toLowerCase().includes(word));
}
