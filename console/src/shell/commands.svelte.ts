import { untrack } from 'svelte';

/** A command can be found in the palette, and may have a key. */
export interface Command {
  id: string;
  title: string;
  keys?: string; // as told: "g f"
  run: () => void;
}

/** commands are those that the screens that are shown now have. */
class Commands {
  all = $state.raw<Command[]>([]);
  open = $state(false);

  /** add adds commands and returns what takes them away: for an $effect. */
  add(more: Command[]): () => void {
    this.all = [...untrack(() => this.all), ...more];
    return () => {
      this.all = untrack(() => this.all).filter((command) => !more.includes(command));
    };
  }
}

export const commands = new Commands();

/** matching returns those whose title has all the words, in any order. */
export function matching(all: Command[], typed: string): Command[] {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  return all.filter(({ title }) => words.every((word) => title.toLowerCase().includes(word)));
}
