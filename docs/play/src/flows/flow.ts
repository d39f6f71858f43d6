/** What all flows have in common. */

import type { Field, Settle } from "../integrator.js";

/** Which average of the iterates a flow's centre models: (w' + 2w + w'')/4 around a step, or (w + w')/2. */
export type Midpoint = "three_point" | "two_point";

/** A sentence that says why a flow cannot run, for the reader of the page. */
export class FlowError extends Error {}

/** An ordinary differential equation that models an optimizer, started and ready to be integrated. */
export interface Flow {
  readonly state: Float64Array;
  readonly field: Field;
  readonly settle: Settle | null;
  /** The optimizer's step at which it starts. */
  readonly firstStep: number;
  /** Units of the flow's time in a step of the optimizer. */
  readonly timePerStep: number;
  /** Null for a flow that models no optimizer. */
  readonly midpoint: Midpoint | null;
  /** Where its centre is: what is drawn. */
  place(state: Float64Array): readonly [number, number];
  /** Where it says that the optimizer is on average; the same as `place` but for a ball, which touches elsewhere. */
  predicted(state: Float64Array): readonly [number, number];
}

export const firstTwo = (state: Float64Array): readonly [number, number] => [state[0]!, state[1]!];
