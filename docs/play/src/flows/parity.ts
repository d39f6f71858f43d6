/** The parity flow: the iterates are c + (-1)^t d, and both parts move by an ordinary equation. */

import type { Descent } from "../descent.js";
import { eigenpairs2 } from "../linear.js";
import { derivatives, type Loss } from "../losses.js";
import { firstTwo, type Flow } from "./flow.js";

/** a_j of dz/dt = Σ a_j f(Φ^j z) for order 2: f - df/2. */
const WEIGHTS: readonly number[] = [1.5, -0.5];

const SPLIT_PLACES = 3;
const SPLIT_ITERATIONS = 20;

/** Where a fitted start begins, how many iterates it uses on each side, and the degree of its polynomials. */
export const FIT_STEP = 10;
const FIT_HALF_WIDTH = 7;
const FIT_DEGREE = 4;

/**
 * The flow of order 2. With f = Φ - 1 and the doubled map
 *
 *     Φ:  c' = c + (F₊ + F₋)/2,  d' = -d - (F₊ - F₋)/2,  F± = F(c ± d),
 *
 * it is d(c, d)/dt = (3/2) f - (1/2) f∘Φ. Gradient descent's start is split at once; with
 * momentum c and d are fitted to the iterates around step 10, where the flow then starts.
 */
export function parityFlow(descent: Descent, x: number, y: number): Flow {
  const n = descent.dimension;
  const [centre, half] = n === 2 ? split(descent.loss, descent.rate, x, y) : fitted(descent, x, y);
  const state = new Float64Array(2 * n);
  state.set(centre);
  state.set(half, n);
  const point = new Float64Array(2 * n), move = new Float64Array(2 * n);
  const end = new Float64Array(n), plus = new Float64Array(n), minus = new Float64Array(n);

  /** f at `point`, to `move`. */
  const doubled = (): void => {
    for (let i = 0; i < n; i++) end[i] = point[i]! + point[n + i]!;
    descent.increment(end, plus);
    for (let i = 0; i < n; i++) end[i] = point[i]! - point[n + i]!;
    descent.increment(end, minus);
    for (let i = 0; i < n; i++) {
      move[i] = 0.5 * (plus[i]! + minus[i]!);
      move[n + i] = -2 * point[n + i]! - 0.5 * (plus[i]! - minus[i]!);
    }
  };

  return {
    state,
    field: (z, out) => {
      point.set(z);
      out.fill(0);
      for (const weight of WEIGHTS) {
        doubled();
        for (let i = 0; i < 2 * n; i++) {
          out[i]! += weight * move[i]!;
          point[i]! += move[i]!;
        }
      }
    },
    settle: null,
    firstStep: n === 2 ? 0 : FIT_STEP,
    timePerStep: 1,
    midpoint: "three_point",
    place: firstTwo,
    predicted: firstTwo,
  };
}

/**
 * Split w₀ into c + d: d lies in as many modes U of the Hessian at c as are above 1/η at w₀, and
 * Uᵀ(g(c + d) + g(c - d)) = 0, found by Newton's method with the Hessian at w₀ while U is renewed.
 */
export function split(loss: Loss, rate: number, x: number, y: number): [Float64Array, Float64Array] {
  const at = derivatives();
  loss.evaluate(x, y, 2, at);
  const gx = at[1]!, gy = at[2]!, hxx = at[3]!, hxy = at[4]!, hyy = at[5]!;
  const [first, second] = eigenpairs2(hxx, hxy, hyy);
  const k1 = first * rate > 1, k2 = second * rate > 1;
  let dx = 0, dy = 0;
  for (let place = 0; place < SPLIT_PLACES; place++) {
    loss.evaluate(x - dx, y - dy, 2, at);
    const [, , c, s] = eigenpairs2(at[3]!, at[4]!, at[5]!);
    // H(w₀) in the modes that oscillate, and 1 in the others.
    const m11 = k1 ? c * c * hxx + 2 * c * s * hxy + s * s * hyy : 1;
    const m22 = k2 ? s * s * hxx - 2 * c * s * hxy + c * c * hyy : 1;
    const m12 = k1 && k2 ? c * s * (hyy - hxx) + (c * c - s * s) * hxy : 0;
    const determinant = m11 * m22 - m12 * m12;
    let a = k1 ? c * dx + s * dy : 0, b = k2 ? -s * dx + c * dy : 0;
    for (let i = 0; i < SPLIT_ITERATIONS; i++) {
      dx = a * c - b * s;
      dy = a * s + b * c;
      loss.evaluate(x - 2 * dx, y - 2 * dy, 1, at);
      const mx = 0.5 * (gx + at[1]!), my = 0.5 * (gy + at[2]!);
      const r1 = k1 ? c * mx + s * my : 0, r2 = k2 ? -s * mx + c * my : 0;
      a += (m22 * r1 - m12 * r2) / determinant;
      b += (m11 * r2 - m12 * r1) / determinant;
    }
    dx = a * c - b * s;
    dy = a * s + b * c;
  }
  return [Float64Array.of(x - dx, y - dy), Float64Array.of(dx, dy)];
}

/** Fit C(t) + (-1)^t D(t), polynomials of t, to the iterates around a step, and return c and d there. */
export function fitted(descent: Descent, x: number, y: number): [Float64Array, Float64Array] {
  const z = descent.start(x, y), scratch = new Float64Array(z.length);
  for (let t = 0; t < FIT_STEP - FIT_HALF_WIDTH; t++) descent.step(z, scratch);
  const weights = fitWeights(FIT_STEP, FIT_HALF_WIDTH, FIT_DEGREE);
  // The weights of c add up to 1: the rest are differences from the first iterate.
  const first = z.slice();
  const centre = z.slice(), half = new Float64Array(z.length);
  for (let k = 1; k <= 2 * FIT_HALF_WIDTH; k++) {
    descent.step(z, scratch);
    for (let i = 0; i < z.length; i++) {
      const moved = z[i]! - first[i]!;
      centre[i]! += weights[0]![k]! * moved;
      half[i]! += weights[1]![k]! * moved;
    }
  }
  return [centre, half];
}

/** What to weight the iterates around a step with, to get c and d there: two rows of least squares. */
function fitWeights(step: number, halfWidth: number, degree: number): [Float64Array, Float64Array] {
  const rows = 2 * halfWidth + 1, half = degree + 1, columns = 2 * half;
  // Columns that are orthonormal, by Gram and Schmidt (twice, against rounding), with the
  // triangular matrix R of the factorization.
  const q: Float64Array[] = [], r: number[][] = [];
  for (let column = 0; column < columns; column++) {
    const entries = Float64Array.from({ length: rows }, (_, i) => {
      const offset = i - halfWidth, value = (offset / halfWidth) ** (column % half);
      return column < half || (step + offset) % 2 === 0 ? value : -value;
    });
    const shares = new Array<number>(columns).fill(0);
    for (let pass = 0; pass < 2; pass++) {
      for (let k = 0; k < column; k++) {
        const share = dot(q[k]!, entries);
        shares[k]! += share;
        for (let i = 0; i < rows; i++) entries[i]! -= share * q[k]![i]!;
      }
    }
    const length = Math.sqrt(dot(entries, entries));
    shares[column] = length;
    q.push(entries.map((value) => value / length));
    r.push(shares);
  }
  /** Row `which` of R⁻¹ Qᵀ. */
  const row = (which: number): Float64Array => {
    // R^T u = e_which, forwards; r[column][k] is R's entry (k, column).
    const u = new Float64Array(columns);
    for (let column = which; column < columns; column++) {
      let sum = column === which ? 1 : 0;
      for (let k = which; k < column; k++) sum -= r[column]![k]! * u[k]!;
      u[column] = sum / r[column]![column]!;
    }
    return Float64Array.from({ length: rows }, (_, i) => u.reduce((sum, share, k) => sum + share * q[k]![i]!, 0));
  };
  return [row(0), row(half)];
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}
