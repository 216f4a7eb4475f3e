// What the Run screen knows of a sandbox, kept up by its stream. Cells change many times a second; the page is told once a frame.

import { Timeline } from '../activity/timeline.svelte';
import { Backoff, sleep } from '../api/backoff';
import { contexts, runs, sandboxes } from '../api/client';
import { Cursor } from '../api/cursor';
import { follow, isFinal, standing, type Follower, type Link } from '../api/follow';
import { newKey, problemOf, type Problem } from '../api/http';
import { lines } from '../api/ndjson';
import type { Context, Execution, Sandbox, StreamLine } from '../api/types';
import type { Cell } from './cell';
import { Notebook } from './notebook';

/** replayed is how much of what a run wrote is asked for again when the page is loaded, in bytes: of more, its end. */
const replayed = 8 << 20;

/** lastEvents is how many events of a run that wrote more are asked for. */
const lastEvents = 2000;

/** looks is how often the page asks what has become of the sandbox, in milliseconds. That is no activity. */
const looks = 10_000;

/** touches is how often at most the page tells that somebody works with it, in milliseconds. */
const touches = 20_000;

export class Session {
  readonly notebook = new Notebook();
  contexts = $state.raw<Context[]>([]);
  link = $state.raw<Link>({ state: 'connecting' });
  problem = $state.raw<Problem | null>(null);
  restarted = $state(false);
  /** tick grows when cells were added or the list was made anew. */
  tick = $state(0);
  about = $state.raw<Sandbox | null>(null);
  /** announce is told of each run that ends while the page looks on. */
  announce: (cell: Cell) => void = () => undefined;

  private revs = new Map<string, Counter>();
  private changed = new Set<Cell>();
  private frame = 0;
  private readonly stop = new AbortController();
  readonly timeline: Timeline;

  constructor(readonly sandbox: string) {
    this.timeline = new Timeline(sandbox, this.stop.signal);
  }

  /** open loads what there is and follows what comes. */
  async open(): Promise<void> {
    const cursor = new Cursor();
    const backoff = new Backoff();
    this.lookOn();
    while (!(await this.loaded(cursor))) {
      if (this.problem || this.stop.signal.aborted) return;
      await sleep(backoff.next(), this.stop.signal);
    }
    await follow(this.sandbox, cursor, {}, this.follower, this.stop.signal);
  }

  /** lookOn finds out what has become of the sandbox, now and again and again. */
  private lookOn(): void {
    void this.look();
    const timer = window.setInterval(() => {
      if (document.visibilityState === 'visible') void this.look();
    }, looks);
    this.stop.signal.addEventListener('abort', () => window.clearInterval(timer));
  }

  async look(): Promise<void> {
    try {
      this.about = await sandboxes.get(this.sandbox);
    } catch {
      // The stream says what is wrong.
    }
  }

  private touched = Date.now();

  /** touch tells the server that somebody works with the sandbox: what the page does by itself is no activity. */
  touch(now = false): void {
    if ((!now && Date.now() - this.touched < touches) || this.link.state === 'ended' || this.link.state === 'refused') return;
    this.touched = Date.now();
    void this.refreshContexts(false).then(() => this.look(), () => undefined);
  }

  /** loaded loads what there is and reports whether that went well; where no other try makes sense there is a problem. */
  private async loaded(cursor: Cursor): Promise<boolean> {
    try {
      await this.load(cursor);
      return true;
    } catch (e) {
      if (this.stop.signal.aborted) return false;
      const problem = problemOf(e);
      if (isFinal(problem)) this.problem = problem;
      else this.link = { state: 'waiting', problem };
      return false;
    }
  }

  close(): void {
    this.stop.abort();
    if (this.frame) cancelAnimationFrame(this.frame);
  }

  /** rev is read by who shows a cell: it changes with it. A cell that is shown before the list is, while that is loaded, has no counter yet: the
   * tick tells of it. */
  rev(cell: Cell): number {
    void this.tick;
    return this.revs.get(cell.id)?.n ?? 0;
  }

  cells(context: string): Cell[] {
    void this.tick;
    return this.notebook.of(context);
  }

  async run(context: string, code: string): Promise<Cell> {
    const run = await runs.submit(this.sandbox, context, code, newKey());
    const cell = this.notebook.submitted(run.execution_id, run.context, code);
    this.grown();
    return cell;
  }

  private full = new Set<string>(); // contexts of which all runs are known that the server keeps
  private shorn = new Set<string>(); // such of which the page has not listed all

  /** hasOlder says that there may be runs of a context that are not in the list. */
  hasOlder(context: string): boolean {
    void this.tick;
    return !this.full.has(context) && (this.shorn.has(context) || this.notebook.dropped > 0);
  }

  /** older has the older runs of a context listed: what they have shown is asked for when they come into sight. */
  async older(context: string): Promise<void> {
    const { history } = await contexts.history(this.sandbox, context, 1000);
    for (const cell of this.notebook.older(history, context)) cell.unread = true;
    this.full.add(context);
    this.grown();
  }

  /** read asks for what a run has shown. */
  async read(cell: Cell): Promise<void> {
    if (!cell.unread) return;
    cell.unread = false;
    try {
      const run = await runs.get(this.sandbox, cell.id);
      const from = this.rewind(cell, run);
      const answer = await runs.events(this.sandbox, cell.id, from, this.stop.signal);
      if (!answer.body) return;
      for await (const batch of lines(answer.body, () => undefined)) {
        for (const line of batch) {
          if (line.type === 'update') cell.update(line);
          else cell.take(line);
        }
        this.changed.add(cell);
        if (!this.frame) this.frame = requestAnimationFrame(() => this.flush());
      }
    } catch (e) {
      if (this.stop.signal.aborted) return;
      cell.failure = problemOf(e).message;
      this.changed.add(cell);
      this.flush();
    }
  }

  /** rewind has a cell begin anew, and returns the number of the event after which it does. */
  private rewind(cell: Cell, run: Execution): number {
    const from = run.bytes > replayed ? Math.max(run.events - lastEvents, 0) : 0;
    cell.reset();
    cell.seq = from;
    if (from > 0) cell.outputs.push({ kind: 'missing', count: from, bytes: 0 });
    return from;
  }

  async refreshContexts(passive = true): Promise<void> {
    this.contexts = await contexts.list(this.sandbox, passive);
  }

  private readonly follower: Follower = {
    lines: (batch) => this.take(batch),
    link: (link) => {
      this.link = link;
      if (link.state === 'ended' || (link.state === 'refused' && [404, 410].includes(link.problem.status))) this.over();
    },
    restartedNow: () => this.begin(),
  };

  private take(batch: StreamLine[]): void {
    let added = false;
    for (const line of batch) {
      const known = line.id === undefined ? undefined : this.notebook.cells.get(line.id);
      const was = known?.state;
      for (const cell of this.notebook.take(line)) this.changed.add(cell);
      added ||= line.type === 'run_submitted';
      if (known && was !== 'done' && known.state === 'done') this.announce(known);
      this.happened(line);
    }
    if (added) {
      this.grown();
      void this.learnQueued(1000); // in which most begin, or turn out to be this page's
    }
    if (this.changed.size > 0 && !this.frame) this.frame = requestAnimationFrame(() => this.flush());
  }

  /** begin forgets what was: the numbers of all events begin anew. */
  private begin(): void {
    this.restarted = true;
    this.notebook.clear();
    this.timeline.clear();
    this.tick++;
    void this.refreshContexts().catch(() => undefined);
  }

  /** happened acts on lines that are not of a run alone. */
  private happened(line: StreamLine): void {
    if (line.source === 'execution' && line.id !== undefined) {
      const cell = this.notebook.cells.get(line.id);
      if (cell && line.type === 'start' && cell.code === '') void this.learn(cell.context);
    }
    if (line.source === 'timeline' && line.type !== 'ping') this.timeline.take(line);
    if (line.source === 'timeline' && /^(context_|kernel_died|run_)/.test(line.type)) this.refreshSoon();
  }

  private refresh = 0;

  private refreshSoon(): void {
    if (this.refresh) return;
    this.refresh = window.setTimeout(() => {
      this.refresh = 0;
      if (!this.stop.signal.aborted) void this.refreshContexts().catch(() => undefined);
    }, 200);
  }

  private learning = new Set<string>(); // contexts whose history is asked for
  private more = new Set<string>(); // of these such as have begun another run meanwhile

  /** learn finds out the code of runs that others began: of many that begin together with one question a second, as a history is long. */
  private async learn(context: string): Promise<void> {
    if (this.learning.has(context)) {
      this.more.add(context);
      return;
    }
    this.learning.add(context);
    try {
      do {
        this.more.delete(context);
        const { history } = await contexts.history(this.sandbox, context);
        this.notebook.restore(history, context);
        this.grown();
        await sleep(1000, this.stop.signal);
      } while (this.more.has(context) && !this.stop.signal.aborted);
    } catch {
      // The code stays unknown; what it does is shown all the same.
    }
    this.learning.delete(context);
  }

  private asking = false;

  /** learnQueued finds out the code of runs that others have queued, one after the other: no history has them before they begin. */
  private async learnQueued(delay: number): Promise<void> {
    if (this.asking) return;
    this.asking = true;
    try {
      await sleep(delay, this.stop.signal);
      for (const cell of this.notebook.cells.values()) {
        if (cell.state !== 'queued' || cell.code !== '') continue;
        const { code } = await runs.get(this.sandbox, cell.id, true);
        if (cell.code !== '' || !code) continue;
        cell.code = code;
        this.changed.add(cell);
        this.flush();
      }
    } catch {
      // It is learned when it begins.
    }
    this.asking = false;
  }

  /** load restores the runs of all contexts and has the cursor ask for their events from the beginning. */
  private async load(cursor: Cursor): Promise<void> {
    // Where the stream stands is asked for first: what begins after that it tells of, and what has ended before is in the list.
    const now = await standing(this.sandbox, this.stop.signal);
    const [all, list] = await Promise.all([runs.list(this.sandbox), contexts.list(this.sandbox)]);
    this.contexts = list;
    for (const { context_id } of list) {
      const kept = await contexts.history(this.sandbox, context_id).catch((e: unknown) => {
        if (problemOf(e).status === 404) return null; // it was deleted since the list came
        throw e;
      });
      if (!kept) continue;
      if (kept.truncated) this.shorn.add(context_id);
      this.notebook.restore(kept.history, context_id);
    }
    cursor.epoch = now.epoch;
    cursor.timeline = now.timeline;
    this.timeline.begins(now.timeline);
    for (const id of now.logs.keys()) if (!/^\d+$/.test(id)) cursor.logs.set(id, 0); // numbers are processes
    for (const run of all) {
      const cell = this.notebook.cells.get(run.execution_id) ?? (run.state !== 'done' ? this.notebook.submitted(run.execution_id, run.context, '') : null);
      if (!cell) continue;
      cursor.logs.set(cell.id, this.rewind(cell, run));
    }
    this.grown();
    void this.learnQueued(0);
  }

  /** grown has the page show the list anew. Each cell has its counter before: Svelte tells nobody of state that is made while it is read. */
  private grown(): void {
    const { cells } = this.notebook;
    for (const id of cells.keys()) if (!this.revs.has(id)) this.revs.set(id, new Counter());
    for (const id of this.revs.keys()) if (!cells.has(id)) this.revs.delete(id);
    this.tick++;
  }

  /** over has what ran end with its sandbox, whose stream tells no more of it. */
  private over(): void {
    for (const cell of this.notebook.cells.values()) {
      if (cell.state === 'done') continue;
      cell.state = 'done';
      cell.status = 'sandbox_killed';
      cell.asked = null;
      this.changed.add(cell);
    }
    this.flush();
  }

  private flush(): void {
    this.frame = 0;
    for (const { id } of this.changed) {
      const counter = this.revs.get(id);
      if (counter) counter.n++;
    }
    this.changed.clear();
  }
}

class Counter {
  n = $state(0);
}
