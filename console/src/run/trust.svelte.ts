import { SvelteSet } from 'svelte/reactivity';

/** trust holds the sandboxes whose output may run scripts in its frames, for as long as the tab is open. */
class Trust {
  private ids = new SvelteSet<string>(stored());

  has(sandbox: string): boolean {
    return this.ids.has(sandbox);
  }

  add(sandbox: string): void {
    this.ids.add(sandbox);
    try {
      sessionStorage.setItem('k2.live', JSON.stringify([...this.ids].slice(-100)));
    } catch {
      // Storage is off: it lasts as long as the page.
    }
  }
}

function stored(): string[] {
  try {
    const ids: unknown = JSON.parse(sessionStorage.getItem('k2.live') ?? '[]');
    return Array.isArray(ids) ? ids.filter((id) => typeof id === 'string') : [];
  } catch {
    return [];
  }
}

export const trust = new Trust();
