// A run and what it has shown, made of its events: the reducer of the Run screen. It keeps a bounded part of it; all of
// it is on the server.

import type { Bundle, Exit, HistoryEntry, Line, RunStatus } from '../api/types';
import { Screen } from '../text/screen';

export type Output =
  | { kind: 'text'; stream: 'stdout' | 'stderr'; screen: Screen }
  | { kind: 'display'; data: Bundle; metadata: Bundle; displayID: string; isMain: boolean; size: number; rev: number }
  | { kind: 'error'; name: string; value: string; traceback: string[] }
  | { kind: 'missing'; count: number; bytes: number };

export interface Asked {
  prompt: string;
  password: boolean;
}

export const maxDisplays = 200; // of a cell
export const maxDisplayChars = 16 << 20; // of all of them
export const maxLines = 5000; // of text that is shown, about: two streams that are both as long as they can be, and a bit
const keptFirst = 20; // displays that are kept whatever comes

export class Cell {
  code: string;
  count: number | null = null;
  state: 'queued' | 'running' | 'done' = 'queued';
  status: RunStatus | '' = '';
  outputs: Output[] = [];
  asked: Asked | null = null;
  startedAt = '';
  duration: number | null = null;
  exit: Exit | null = null;
  stateLost = false;
  outputLost = false;
  failure = ''; // why the server could not tell all of it
  seq = 0; // of the newest event
  unread = false; // nothing of what it has shown was asked for yet

  private clearNext = false;
  private displays = 0;
  private chars = 0;

  constructor(
    readonly id: string,
    readonly context: string,
    code = '',
  ) {
    this.code = code;
  }

  static of(entry: HistoryEntry, context: string): Cell {
    const cell = new Cell(entry.execution_id, context, entry.code);
    cell.count = entry.execution_count;
    cell.state = entry.state;
    cell.status = entry.status ?? '';
    cell.startedAt = entry.started_at;
    if (entry.ended_at) cell.duration = (Date.parse(entry.ended_at) - Date.parse(entry.started_at)) / 1000;
    return cell;
  }

  /** reset forgets what it has shown: all events come again. */
  reset(): void {
    this.outputs = [];
    this.asked = null;
    this.seq = 0;
    this.clearNext = false;
    this.displays = 0;
    this.chars = 0;
  }

  /** take takes the next event. One that was there before changes nothing. */
  take(e: Line): void {
    if (e.type === 'end') return this.end(e);
    if (e.seq <= this.seq) return;
    this.seq = e.seq;
    if (e.type !== 'input') this.asked = null;
    switch (e.type) {
      case 'start':
        if (this.state !== 'done') this.state = 'running'; // and not where it is replayed
        this.startedAt = e.time;
        this.count = e.execution_count ?? null;
        break;
      case 'stdout':
      case 'stderr':
        this.write(e.type, e.text ?? '');
        break;
      case 'result':
        this.display(e);
        break;
      case 'error':
        this.add({ kind: 'error', name: e.name ?? '', value: e.value ?? '', traceback: e.traceback ?? [] });
        break;
      case 'clear':
        if (e.wait) this.clearNext = true;
        else this.clear();
        break;
      case 'input':
        this.asked = { prompt: e.prompt ?? '', password: e.password ?? false };
        break;
      case 'truncated':
        this.miss(0, e.bytes ?? 0);
    }
  }

  /** update replaces what is shown under a display id, which may be another cell's. It reports whether it is. */
  update(e: Line): boolean {
    let found = false;
    for (const output of this.outputs) {
      if (output.kind !== 'display' || output.displayID !== e.display_id) continue;
      output.data = bundle(e.data);
      this.chars -= output.size;
      output.size = sizeOf(output.data);
      this.chars += output.size;
      output.metadata = e.metadata ?? {};
      output.rev++;
      found = true;
    }
    if (found) this.bound();
    return found;
  }

  private end(e: Line): void {
    this.asked = null;
    if (e.status === 'cut') {
      this.failure = e.error?.message ?? '';
      return;
    }
    this.seq = Math.max(this.seq, e.seq);
    this.state = 'done';
    this.status = (e.status ?? '') as RunStatus;
    this.duration = e.duration ?? this.duration;
    this.count = e.execution_count ?? this.count;
    this.exit = e.exit ?? null;
    this.stateLost = e.state_lost ?? false;
    this.outputLost = e.output_lost ?? false;
  }

  private write(stream: 'stdout' | 'stderr', text: string): void {
    this.clearFirst();
    const last = this.outputs.at(-1);
    if (last?.kind === 'text' && last.stream === stream) return last.screen.write(text);
    const screen = new Screen();
    screen.write(text);
    this.add({ kind: 'text', stream, screen });
  }

  private display(e: Line): void {
    const data = bundle(e.data);
    const size = sizeOf(data);
    this.add({ kind: 'display', data, metadata: e.metadata ?? {}, displayID: e.display_id ?? '', isMain: e.is_main ?? false, size, rev: 0 });
  }

  private add(output: Output): void {
    this.clearFirst();
    this.outputs.push(output);
    this.displays++;
    if (output.kind === 'display') this.chars += output.size;
    this.bound();
  }

  private bound(): void {
    while (this.displays > maxDisplays || (this.crowded && this.displays > 1)) {
      if (!this.forget()) return;
    }
  }

  /** crowded says that a few outputs are too much already. */
  private get crowded(): boolean {
    let lines = 0;
    for (const output of this.outputs) if (output.kind === 'text') lines += output.screen.head.length + output.screen.tail.length;
    return this.chars > maxDisplayChars || lines > maxLines;
  }

  /** forget drops the oldest output behind the first few and before the newest. */
  private forget(): boolean {
    const first = this.crowded ? 0 : keptFirst;
    const at = this.outputs.findIndex((output, i) => i >= first && output.kind !== 'missing');
    if (at < 0 || at === this.outputs.length - 1) return false;
    const output = this.outputs[at]!;
    this.outputs.splice(at, 1);
    this.displays--;
    if (output.kind === 'display') this.chars -= output.size;
    this.miss(1, 0, at);
    return true;
  }

  /** miss notes that something is not here. */
  private miss(count: number, bytes: number, at = this.outputs.length): void {
    for (const near of [this.outputs[at - 1], this.outputs[at]]) {
      if (near?.kind !== 'missing') continue;
      near.count += count;
      near.bytes += bytes;
      return;
    }
    this.outputs.splice(at, 0, { kind: 'missing', count, bytes });
  }

  private clearFirst(): void {
    if (this.clearNext) this.clear();
  }

  private clear(): void {
    this.clearNext = false;
    this.outputs = [];
    this.displays = 0;
    this.chars = 0;
  }
}

function bundle(data: Line['data']): Bundle {
  return typeof data === 'object' && data !== null ? data : {};
}

/** sizeOf is about how many characters a bundle has. */
function sizeOf(data: Bundle): number {
  let size = 0;
  for (const value of Object.values(data)) size += typeof value === 'string' ? value.length : JSON.stringify(value ?? null).length;
  return size;
}
