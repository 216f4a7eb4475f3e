// What draws Vega and Vega-Lite in the frame of hostile output: a script of its own, which the page hands to the frame as text.

import embed, { type Mode, type VisualizationSpec } from 'vega-embed';

Object.assign(globalThis, {
  k2vega: (target: HTMLElement, spec: VisualizationSpec, mode: Mode, dark: boolean) =>
    embed(target, spec, { mode, actions: false, renderer: 'svg', ...(dark && { theme: 'dark' as const }) }),
});
