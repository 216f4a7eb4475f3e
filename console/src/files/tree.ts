// The folders of a sandbox as a tree, of which what was opened is known.

import { join } from './paths';

export interface Row {
  path: string;
  name: string;
  level: number; // the root's is 1
  open: boolean;
  index: number; // among its siblings, from 1
  siblings: number;
  more: number; // folders behind this one that are not listed
}

/** maxFolders is how many folders of one are listed. */
export const maxFolders = 500;

/** rowsOf are the folders in sight, from the root down: children has the names of those in a folder, sorted, where that is known. */
export function rowsOf(opened: ReadonlySet<string>, children: ReadonlyMap<string, string[]>): Row[] {
  const rows: Row[] = [];
  const add = (path: string, name: string, level: number, index: number, siblings: number, more: number) => {
    const open = opened.has(path);
    rows.push({ path, name, level, open, index, siblings, more });
    if (!open) return;
    const names = children.get(path) ?? [];
    const listed = names.slice(0, maxFolders);
    listed.forEach((one, i) => add(join(path, one), one, level + 1, i + 1, listed.length, i === maxFolders - 1 ? names.length - maxFolders : 0));
  };
  add('/', '/', 1, 1, 1, 0);
  return rows;
}

/** parentRow is the index of the row of the folder that one is in; its own where it is the root. */
export function parentRow(rows: Row[], at: number): number {
  const level = rows[at]?.level ?? 1;
  for (let i = at - 1; i >= 0; i--) if ((rows[i]?.level ?? 0) < level) return i;
  return at;
}
