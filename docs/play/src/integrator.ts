/** An adaptive integrator of ordinary differential equations: the method of Dormand and Prince, of order 5. */

/** Writes the time derivative of a state to `out`; what is not finite there makes the step shorter. */
export type Field = (state: Float64Array, out: Float64Array) => void;

/** Puts the end of a step right, in place; false if that failed, and the step is to be shorter. */
export type Settle = (state: Float64Array, before: Float64Array) => boolean;

export interface Tolerances {
  relative: number;
  absolute: number;
  /** No step is longer than this. */
  longest: number;
  /** Attempts in one call of `advance` after which the equation counts as too stiff. */
  attempts: number;
}

const A: readonly (readonly number[])[] = [
  [],
  [1 / 5],
  [3 / 40, 9 / 40],
  [44 / 45, -56 / 15, 32 / 9],
  [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
  [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
  [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
];
const ERROR: readonly number[] = [
  35 / 384 - 5179 / 57600, 0, 500 / 1113 - 7571 / 16695, 125 / 192 - 393 / 640,
  -2187 / 6784 + 92097 / 339200, 11 / 84 - 187 / 2100, -1 / 40,
];
const STAGES = 7;
const SHORTEST = 1e-9;

export class Integrator {
  private readonly stages: Float64Array[];
  private readonly trial: Float64Array;
  private step: number;
  private fresh = true;
  /** Evaluations of the field so far. */
  evaluations = 0;

  /**
   * @param state The state, which `advance` moves.
   * @param field The right-hand side.
   * @param settle What happens at the end of each step before it is judged, if anything.
   */
  constructor(
    readonly state: Float64Array,
    private readonly field: Field,
    private readonly tolerances: Tolerances,
    private readonly settle: Settle | null = null,
  ) {
    this.stages = Array.from({ length: STAGES }, () => new Float64Array(state.length));
    this.trial = new Float64Array(state.length);
    this.step = Math.min(0.01, tolerances.longest);
  }

  /**
   * Move the state on by a duration.
   *
   * @param accepted Called after each step that was accepted.
   * @returns False where the equation cannot be followed any further: the field is not finite
   *   there, or too stiff. The state is then where it came to.
   */
  advance(duration: number, accepted: ((state: Float64Array) => void) | null = null): boolean {
    const { state, trial, stages } = this;
    const first = stages[0]!, last = stages[STAGES - 1]!;
    let left = duration;
    for (let attempt = 0; left > 1e-12 * duration; attempt++) {
      if (attempt >= this.tolerances.attempts) return false;
      if (this.fresh) {
        this.evaluate(state, first);
        if (!isFinite(first)) return false;
        this.fresh = false;
      }
      // The last two steps before the end are equally long, so that none is tiny.
      let h = Math.min(this.step, this.tolerances.longest);
      if (h >= left) h = left;
      else if (2 * h > left) h = left / 2;
      for (let s = 1; s < STAGES; s++) {
        const row = A[s]!;
        for (let i = 0; i < state.length; i++) {
          let sum = 0;
          for (let k = 0; k < s; k++) sum += row[k]! * stages[k]![i]!;
          trial[i] = state[i]! + h * sum;
        }
        if (s === STAGES - 1 && this.settle !== null && !this.settle(trial, state)) {
          last.fill(NaN);
          break;
        }
        this.evaluate(trial, stages[s]!);
      }
      const error = this.error(h);
      if (!(error <= 1)) {
        this.step = h * (Number.isFinite(error) ? Math.max(0.2, 0.9 * error ** -0.2) : 0.2);
        if (this.step < SHORTEST) return false;
        continue;
      }
      left -= h;
      state.set(trial);
      first.set(last);
      this.step = h * Math.min(5, 0.9 * Math.max(error, 1e-10) ** -0.2);
      accepted?.(state);
    }
    return true;
  }

  private evaluate(state: Float64Array, out: Float64Array): void {
    this.evaluations += 1;
    this.field(state, out);
  }

  private error(h: number): number {
    const { state, trial, stages } = this;
    let sum = 0;
    for (let i = 0; i < state.length; i++) {
      let e = 0;
      for (let s = 0; s < STAGES; s++) e += ERROR[s]! * stages[s]![i]!;
      const size = Math.max(Math.abs(state[i]!), Math.abs(trial[i]!));
      const scaled = (h * e) / (this.tolerances.absolute + this.tolerances.relative * size);
      sum += scaled * scaled;
    }
    return Math.sqrt(sum / state.length);
  }
}

export function isFinite(values: Float64Array): boolean {
  for (const value of values) if (!Number.isFinite(value)) return false;
  return true;
}
