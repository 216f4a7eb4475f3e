/** Place counts the events of a process: the first one is its start, which no message tells. */
export class Place {
  constructor(private seq: number) {}

  get after(): number {
    return this.seq;
  }

  binary(): void {
    this.seq = Math.max(this.seq, 1) + 1;
  }

  at(seq: number): void {
    this.seq = Math.max(this.seq, seq);
  }
}
