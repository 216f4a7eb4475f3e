// The runs of a sandbox, context by context, as its stream and its history tell of them.

import type { HistoryEntry, StreamLine } from '../api/types';
import { Cell } from './cell';

/** maxCells is how many runs are in memory: older ones are on the server. */
export const maxCells = 500;

/** maxOlder is how many there are where older ones are asked for. */
export const maxOlder = 2000;

export class Notebook {
  readonly cells = new Map<string, Cell>(); // by id, the oldest first
  private most = maxCells;
  /** dropped counts the runs that are not here any more. */
  dropped = 0;

  /** restore adds the runs of a context's history that are not known. It returns their ids. */
  restore(history: HistoryEntry[], context: string): string[] {
    const known = [...this.cells.values()];
    const added: string[] = [];
    const restored = history.map((entry) => {
      const cell = this.cells.get(entry.execution_id);
      if (!cell) added.push(entry.execution_id);
      else if (cell.code === '') cell.code = entry.code;
      return cell ?? Cell.of(entry, context);
    });
    const all = new Map([...restored, ...known].map((cell) => [cell.id, cell]));
    this.cells.clear();
    for (const cell of [...all.values()].sort(byBegin)) this.cells.set(cell.id, cell);
    this.bound();
    return added.filter((id) => this.cells.has(id));
  }

  /** older adds all runs of a context's history that are not known, however many, up to a limit. It returns their cells. */
  older(history: HistoryEntry[], context: string): Cell[] {
    this.most = Math.min(Math.max(this.most, this.cells.size + history.length), maxOlder);
    this.dropped = 0;
    return this.restore(history, context).flatMap((id) => this.cells.get(id) ?? []);
  }

  /** submitted adds a run that this page has begun, or returns the one that the stream has told of already. */
  submitted(id: string, context: string, code: string): Cell {
    const cell = this.cells.get(id) ?? new Cell(id, context);
    cell.code = code;
    this.cells.set(id, cell);
    this.bound();
    return cell;
  }

  /** take takes a line of the sandbox's stream. It returns the cells that it changed. */
  take(line: StreamLine): Cell[] {
    if (line.source === 'timeline' && line.type === 'run_submitted' && line.execution_id) {
      if (this.cells.has(line.execution_id)) return [];
      const cell = new Cell(line.execution_id, line.context ?? '');
      this.cells.set(cell.id, cell);
      this.bound();
      return [cell];
    }
    if (line.source !== 'execution' || line.id === undefined) return [];
    const cell = this.cells.get(line.id);
    if (!cell) return [];
    if (line.type === 'update') {
      if (line.seq <= cell.seq) return [];
      cell.seq = line.seq;
      return [...this.cells.values()].filter((other) => other.context === cell.context && other.update(line));
    }
    cell.take(line);
    return [cell];
  }

  of(context: string): Cell[] {
    return [...this.cells.values()].filter((cell) => cell.context === context);
  }

  clear(): void {
    this.cells.clear();
    this.dropped = 0;
  }

  private bound(): void {
    for (const [id, cell] of this.cells) {
      if (this.cells.size <= this.most) return;
      if (cell.state !== 'done') continue;
      this.cells.delete(id);
      this.dropped++;
    }
  }
}

/** byBegin has what began first before; what has not begun is the newest. */
function byBegin(a: Cell, b: Cell): number {
  const [first, second] = [begin(a), begin(b)];
  return first < second ? -1 : first > second ? 1 : 0;
}

const begin = (cell: Cell) => (cell.startedAt === '' ? Infinity : Date.parse(cell.startedAt));
