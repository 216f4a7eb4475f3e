// Files on their way into a sandbox, one after the other, each with its progress.

import { files } from '../api/client';
import { address, Problem } from '../api/http';
import { text } from '../text';
import { join } from './paths';

export interface Upload {
  id: number;
  path: string;
  file: File;
  sent: number;
  state: 'waiting' | 'sending' | 'done' | 'failed' | 'cancelled';
  message: string;
}

export class Uploads {
  all = $state<Upload[]>([]);
  private next = 1;
  private busy = false;
  private request: XMLHttpRequest | null = null;

  constructor(private readonly sandbox: string) {}

  add(dir: string, given: { file: File; path: string }[]): void {
    for (const { file, path } of given) {
      this.all.push({ id: this.next++, path: join(dir, path), file, sent: 0, state: 'waiting', message: '' });
    }
    void this.work();
  }

  retry(id: number): void {
    const upload = this.all.find((u) => u.id === id);
    if (!upload || upload.state === 'sending') return;
    upload.state = 'waiting';
    upload.sent = 0;
    upload.message = '';
    void this.work();
  }

  cancel(id: number): void {
    const upload = this.all.find((u) => u.id === id);
    if (upload?.state === 'sending') this.request?.abort();
    else if (upload?.state === 'waiting') upload.state = 'cancelled';
  }

  close(): void {
    for (const upload of this.all) if (upload.state === 'waiting') upload.state = 'cancelled';
    this.request?.abort();
  }

  private async work(): Promise<void> {
    if (this.busy) return;
    this.busy = true;
    for (;;) {
      const upload = this.all.find((u) => u.state === 'waiting');
      if (!upload) break;
      upload.state = 'sending';
      try {
        await this.send(upload);
        upload.state = 'done';
      } catch (e) {
        upload.state = e instanceof DOMException ? 'cancelled' : 'failed';
        upload.message = e instanceof Error && upload.state === 'failed' ? e.message : '';
      }
    }
    this.busy = false;
  }

  /** send uses an XMLHttpRequest: fetch tells of no progress. */
  private send(upload: Upload): Promise<void> {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      this.request = request;
      request.open('PUT', address(files.path(this.sandbox), { path: upload.path }));
      request.setRequestHeader('Content-Type', 'application/octet-stream');
      request.upload.onprogress = (e) => (upload.sent = e.loaded);
      request.onload = () => (request.status < 400 ? resolve() : reject(told(request)));
      request.onerror = () => reject(new Problem('unreachable', text.problem.unreachable));
      request.onabort = () => reject(new DOMException('aborted', 'AbortError'));
      request.send(upload.file);
    });
  }
}

function told(request: XMLHttpRequest): Problem {
  try {
    const { error } = JSON.parse(request.responseText) as { error: { code: string; message: string } };
    return new Problem(error.code, error.message, request.status);
  } catch {
    return new Problem('http', text.problem.status(request.status), request.status);
  }
}

/** dropped returns the files that were dropped, with those in folders, of which the browser tells a part at a time. */
export async function dropped(items: DataTransferItemList): Promise<{ file: File; path: string }[]> {
  const roots = [...items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  const found: { file: File; path: string }[] = [];
  for (const root of roots) await walk(root, '', found);
  return found;
}

async function walk(entry: FileSystemEntry, dir: string, found: { file: File; path: string }[]): Promise<void> {
  const path = dir + entry.name;
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    found.push({ file, path });
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    const part = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (part.length === 0) return;
    for (const one of part) await walk(one, path + '/', found);
  }
}
