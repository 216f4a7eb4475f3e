const key = 'k2.reader';

/** reader says whether terminals tell screen readers what is written: it costs a copy of each screen as text. */
class Reader {
  on = $state(stored());

  toggle(): void {
    this.on = !this.on;
    try {
      localStorage.setItem(key, this.on ? '1' : '0');
    } catch {
      // Storage is off: it lasts as long as the page.
    }
  }
}

function stored(): boolean {
  try {
    return localStorage.getItem(key) === '1';
  } catch {
    return false;
  }
}

export const reader = new Reader();
