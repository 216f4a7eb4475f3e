/** Rows is the part of a long list that is in the page: those in sight and some around them. */
export interface Rows {
  from: number;
  to: number; // before this one
  above: number; // pixels of those before
  below: number; // and of those behind
}

export function rowsIn(count: number, height: number, scrolled: number, seen: number, around = 10): Rows {
  const from = Math.min(Math.max(Math.floor(scrolled / height) - around, 0), Math.max(count - 1, 0));
  const to = Math.min(count, Math.max(Math.ceil((scrolled + seen) / height) + around, from));
  return { from, to, above: from * height, below: (count - to) * height };
}
