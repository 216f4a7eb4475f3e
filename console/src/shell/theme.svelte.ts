export type Theme = 'system' | 'light' | 'dark';

const key = 'k2.theme';
const dark = '(prefers-color-scheme: dark)';

/** theme is what the user has chosen; public/theme.js applies it before the first paint. */
class Chosen {
  value = $state<Theme>(read());
  private system = $state(matchMedia(dark).matches);
  /** dark is what is shown: the system's theme may change while the page is open. */
  readonly dark = $derived(this.value === 'system' ? this.system : this.value === 'dark');

  constructor() {
    matchMedia(dark).addEventListener('change', (e) => (this.system = e.matches));
  }

  set(theme: Theme): void {
    this.value = theme;
    const root = document.documentElement;
    if (theme === 'system') delete root.dataset.theme;
    else root.dataset.theme = theme;
    try {
      localStorage.setItem(key, theme);
    } catch {
      // Storage is off: it lasts as long as the page.
    }
  }
}

function read(): Theme {
  try {
    const stored = localStorage.getItem(key);
    return stored === 'light' || stored === 'dark' ? stored : 'system';
  } catch {
    return 'system';
  }
}

export const theme = new Chosen();
