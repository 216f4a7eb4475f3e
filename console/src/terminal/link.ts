// A terminal's WebSocket, which goes on where it stopped: each binary message is an event of the process, so that they can be counted.

import { Backoff, sleep } from '../api/backoff';
import { processes } from '../api/client';
import { address } from '../api/http';
import type { Place } from './place';

/** replayed is how many events of a terminal are asked for when the page is loaded: of more, the last. */
export const replayed = 5000;

export type End = { status?: string; exit_code?: number; signal?: string; oom?: boolean };

export interface Viewer {
  output(bytes: Uint8Array): void;
  ended(end: End): void;
  failed(message: string): void;
  link(state: 'connecting' | 'live' | 'waiting' | 'refused'): void;
}

export class TerminalLink {
  private socket: WebSocket | null = null;

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
      this.viewer.link('connecting');
      const how = await this.once();
      if (how === 'ended' || this.signal.aborted) return;
      refused = how === 'refused' ? refused + 1 : 0;
      if (how === 'cut') backoff.reset();
      this.viewer.link(refused >= 3 ? 'refused' : 'waiting');
      await sleep(backoff.next(), this.signal);
    }
  }

  private once(): Promise<'ended' | 'cut' | 'refused'> {
    return new Promise((resolve) => {
      const url = address(processes.attachPath(this.sandbox, this.pid), { after: this.place.after });
      url.protocol = url.protocol.replace('http', 'ws');
      const socket = new WebSocket(url);
      socket.binaryType = 'arraybuffer';
      this.socket = socket;
      let opened = false;
      let ended = false;
      const abort = () => socket.close();
      this.signal.addEventListener('abort', abort);
      socket.onopen = () => {
        opened = true;
        this.viewer.link('live');
      };
      socket.onmessage = ({ data }: MessageEvent<ArrayBuffer | string>) => {
        if (typeof data !== 'string') {
          this.place.binary();
          this.viewer.output(new Uint8Array(data));
        } else ended = this.told(data) || ended;
      };
      socket.onclose = () => {
        this.signal.removeEventListener('abort', abort);
        this.socket = null;
        resolve(ended ? 'ended' : opened ? 'cut' : 'refused');
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
