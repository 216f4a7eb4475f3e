/** Bounded keeps the first and the last of what comes, and counts what was between: that is on the server. */
export class Bounded<T> {
  readonly head: T[] = [];
  private readonly ring: T[] = [];
  private total = 0;

  constructor(
    private readonly maxHead: number,
    private readonly maxTail: number,
  ) {}

  push(item: T): void {
    this.total++;
    if (this.head.length < this.maxHead) {
      this.head.push(item);
      return;
    }
    this.ring.push(item);
    if (this.ring.length > 2 * this.maxTail) this.ring.splice(0, this.ring.length - this.maxTail);
  }

  get tail(): T[] {
    return this.ring.slice(-this.maxTail);
  }

  /** hidden is how many came between the two. */
  get hidden(): number {
    return this.total - this.head.length - Math.min(this.ring.length, this.maxTail);
  }

  clear(): void {
    this.head.length = 0;
    this.ring.length = 0;
    this.total = 0;
  }
}
