/** Found is where a text is in lines. */
export interface Found {
  row: number;
  column: number;
}

/** findIn looks for a text, whatever its case, from behind a place on, or backwards from before it, and once around; null: it is nowhere. */
export function findIn(lines: { length: number; text: (row: number) => string }, wanted: string, from: Found, backwards: boolean): Found | null {
  const what = wanted.toLowerCase();
  if (what === '' || lines.length === 0) return null;
  for (let step = 0; step <= lines.length; step++) {
    const row = (from.row + (backwards ? -step : step) + lines.length) % lines.length;
    const line = lines.text(row).toLowerCase();
    let column: number;
    if (backwards) column = step === 0 ? (from.column > 0 ? line.lastIndexOf(what, from.column - 1) : -1) : line.lastIndexOf(what);
    else column = line.indexOf(what, step === 0 ? from.column + 1 : 0);
    if (column >= 0) return { row, column };
  }
  return null;
}
