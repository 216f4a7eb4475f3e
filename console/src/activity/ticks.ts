// The lines of a chart: how far apart they may be, and what they say.

import { units } from '../format';

export interface Ticks {
  steps: number[]; // between two lines
  say: (ticks: number[], step: number) => string[];
}

/** steps are 1, 2 and 5 times the powers of ten. */
const steps = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => [1, 2, 5].map((n) => Number(`${n}e${from + i}`))).flat();

/** numbers have as many decimals as tell the lines apart. */
export const numbers: Ticks = {
  steps: steps(-6, 10),
  say: (ticks, step) => ticks.map((n) => n.toFixed(Math.max(Math.ceil(-Math.log10(step)), 0))),
};

/** whole are numbers of things. */
export const whole: Ticks = { steps: steps(0, 10), say: (ticks) => ticks.map(String) };

/** binary are bytes: the lines are powers of two apart, and all in one unit, in which they are whole. */
export const binary: Ticks = {
  steps: Array.from({ length: 50 }, (_, i) => 2 ** i),
  say: (ticks, step) => {
    const unit = Math.min(Math.floor(Math.log2(step) / 10), units.length - 1);
    return ticks.map((n) => `${n / 1024 ** unit} ${units[unit]}`);
  },
};
