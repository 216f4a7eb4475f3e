/** status is the line that screen readers are told, and short notices with something to undo. */
class Status {
  said = $state('');
  notice = $state.raw<{ message: string; label?: string; act?: () => void } | null>(null);
  private timer = 0;

  say(message: string): void {
    this.said = message;
  }

  /** offer shows a notice for some seconds; done is called when it was not undone. */
  offer(message: string, label: string, seconds: number, done: () => void): void {
    this.settle();
    const settle = () => {
      this.settle = () => undefined;
      window.clearTimeout(this.timer);
      this.notice = null;
      done();
    };
    this.settle = settle;
    this.timer = window.setTimeout(settle, seconds * 1000);
    this.notice = {
      message,
      label,
      act: () => {
        this.settle = () => undefined;
        window.clearTimeout(this.timer);
        this.notice = null;
      },
    };
    this.say(message);
  }

  /** settle does now what is on offer to be undone. */
  settle: () => void = () => undefined;
}

export const status = new Status();
