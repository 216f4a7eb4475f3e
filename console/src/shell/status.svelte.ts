/** status is the line that screen readers are told, and short notices of what can still be undone. */
class Status {
  said = $state('');
  notice = $state.raw<{ message: string; label: string; undo: () => void } | null>(null);
  private timer = 0;
  private pending: (() => void) | null = null; // what is done when the notice goes

  say(message: string): void {
    this.said = message;
  }

  /** offer shows a notice for some seconds, and then does what it tells of; undo is called instead where the user wants that. */
  offer(message: string, label: string, seconds: number, act: () => void, undo: () => void): void {
    this.settle();
    this.pending = act;
    this.timer = window.setTimeout(() => this.settle(), seconds * 1000);
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
