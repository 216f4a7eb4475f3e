// A terminal's WebSocket, which goes on where it stopped: each binary message is an event of the process, so that they can be counted.

import { Backoff, sleep } from '../api/backoff';
import { processes } from '../api/client';
import { isFinal } from '../api/follow';
import { address, problemOf, type Problem } from '../api/http';
import type { Place } from './place';

/** replayed is how many events of a terminal are asked for when the page is loaded: of more, the last. */
export const replayed = 5000;

/** most is how many bytes may wait to be drawn. With more the connection is given up, and goes on where it stopped once all are drawn: the terminal would throw them away. */
const most = 16 << 20;

export type End = { status?: string; exit_code?: number; signal?: string; oom?: boolean };

export interface Viewer {
  output(bytes: Uint8Array, drawn: () => void): void;
  ended(end: End): void;
  failed(message: string): void;
  link(state: 'connecting' | 'live' | 'waiting' | 'refused' | 'left'): void;
}

export class TerminalLink {
  private socket: WebSocket | null = null;
  private waiting = 0; // bytes that are not drawn yet
  private empty: () => void = () => undefined; // is told when none is

  constructor(
    private readonly sandbox: string,
    private readonly pid: number,
    private readonly place: Place,
    private readonly viewer: Viewer,
    private readonly signal: AbortSignal,
  ) {}

  send(data: string | Uint8Array<ArrayBuffer>): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(typeof data === 'string' ? new TextEncoder().encode(data) : data);
  }

  resize(rows: number, cols: number): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ resize: { rows, cols } }));
  }

  /** follow shows what the terminal writes until its end, or until the signal is aborted. */
  async follow(): Promise<void> {
    const backoff = new Backoff();
    let refused = 0;
    while (!this.signal.aborted) {
      if (this.waiting === 0) this.viewer.link('connecting');
      await this.drawn();
      if (this.signal.aborted) return;
      const how = await this.once();
      if (how === 'ended' || this.signal.aborted) return;
      if (how === 'full') continue;
      const problem = how === 'refused' ? await this.why() : null;
      if (problem && isFinal(problem)) {
        this.viewer.failed(problem.message);
        return this.viewer.link('left');
      }
      refused = how === 'refused' ? refused + 1 : 0;
      if (how === 'cut') backoff.reset();
      this.viewer.link(refused >= 3 ? 'refused' : 'waiting');
      await sleep(backoff.next(), this.signal);
    }
  }

  /** why asks what browsers do not tell of a WebSocket that was refused: the login, the sandbox or the process may be gone. */
  private async why(): Promise<Problem | null> {
    try {
      await processes.get(this.sandbox, this.pid);
      return null;
    } catch (e) {
      return problemOf(e);
    }
  }

  /** drawn resolves when nothing waits to be drawn. */
  private drawn(): Promise<void> {
    return new Promise((resolve) => {
      if (this.waiting === 0 || this.signal.aborted) return resolve();
      this.empty = resolve;
      this.signal.addEventListener('abort', () => resolve(), { once: true });
    });
  }

  private once(): Promise<'ended' | 'cut' | 'full' | 'refused'> {
    return new Promise((resolve) => {
      const url = address(processes.attachPath(this.sandbox, this.pid), { after: this.place.after });
      url.protocol = url.protocol.replace('http', 'ws');
      const socket = new WebSocket(url);
      socket.binaryType = 'arraybuffer';
      this.socket = socket;
      let opened = false;
      let ended = false;
      let full = false;
      const abort = () => socket.close();
      this.signal.addEventListener('abort', abort);
      socket.onopen = () => {
        opened = true;
        this.viewer.link('live');
      };
      socket.onmessage = ({ data }: MessageEvent<ArrayBuffer | string>) => {
        if (typeof data !== 'string') {
          const size = data.byteLength;
          this.place.binary();
          this.waiting += size;
          this.viewer.output(new Uint8Array(data), () => {
            this.waiting -= size;
            if (this.waiting === 0) this.empty();
          });
          if (this.waiting <= most || full) return;
          full = true;
          socket.close(); // what comes from now on is not told, and so not counted
        } else ended = this.told(data) || ended;
      };
      socket.onclose = () => {
        this.signal.removeEventListener('abort', abort);
        this.socket = null;
        resolve(ended ? 'ended' : full ? 'full' : opened ? 'cut' : 'refused');
      };
    });
  }

  /** told takes a message of JSON, and reports whether it is the end. */
  private told(raw: string): boolean {
    const line = JSON.parse(raw) as { seq?: number; type?: string; error?: { message?: string } } & End;
    if (line.type === undefined) {
      this.viewer.failed(line.error?.message ?? '');
      return false;
    }
    if (line.seq !== undefined) this.place.at(line.seq);
    if (line.type !== 'end') return false;
    if (line.status === 'cut') {
      this.viewer.failed(line.error?.message ?? '');
      return false;
    }
    this.viewer.ended(line);
    return true;
  }
}
