/** status is the line that screen readers are told, and short notices of what can still be undone. */
class Status {
  said = $state('');
  notice = $state.raw<{ message: string; label: string; undo: () => void } | null>(null);
  private timer = 0;
  private seconds = 0;
  private pending: (() => void) | null = null; // what is done when the notice goes

  say(message: string): void {
    this.said = message;
  }

  /** offer shows a notice for some seconds, and then does what it tells of; undo is called instead where the user wants that. While it is held nothing is done. */
  offer(message: string, label: string, seconds: number, act: () => void, undo: () => void): void {
    this.settle();
    this.pending = act;
    this.seconds = seconds;
    this.release();
    this.notice = {
      message,
      label,
      undo: () => {
        this.pending = null;
        this.settle();
        undo();
      },
    };
    this.say(message);
  }

  /** hold has the notice stay: the pointer is on it, or the focus. */
  hold(): void {
    window.clearTimeout(this.timer);
  }

  /** release has the seconds of the notice begin anew. */
  release(): void {
    window.clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.settle(), this.seconds * 1000);
  }

  /** settle does now what is on offer to be undone. */
  settle(): void {
    window.clearTimeout(this.timer);
    const act = this.pending;
    this.pending = null;
    this.notice = null;
    act?.();
  }
}

export const status = new Status();
