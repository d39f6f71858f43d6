/** Central Flow: gradient descent at the edge of stability, averaged over its oscillation (arXiv 2410.24206). */

import type { Descent } from "../descent.js";
import { eigenpairs2 } from "../linear.js";
import { derivatives, type Derivatives } from "../losses.js";
import { firstTwo, type Flow } from "./flow.js";

/** τ in steps, as in eosflows: how fast an eigenvalue above the threshold returns to it. */
const RELAXATION_TIME = 0.25;

/** An eigenvalue that is further below the threshold than this share has no part in the oscillation. */
const MARGIN = Math.min(1, Math.max(0.05, 0.2 * RELAXATION_TIME));

/**
 * dw/dt = -η [g + (1/2) Σ_ij X_ij ∇(u_iᵀHu_j)], with the covariance X of the oscillation such that
 *
 *     A = diag(2/η - λ_i)/τ + η dH·g,   B[X]_ij = (η/2) Σ_kl <dH_ij, dH_kl> X_kl,
 *     X ⪰ 0,   A + B[X] ⪰ 0,   <X, A + B[X]> = 0.
 */
export function centralFlow(descent: Descent, rank: 1 | 2, x: number, y: number): Flow {
  const { loss, rate } = descent;
  const threshold = 2 / rate;
  const at = derivatives();
  const slopes = new Float64Array(6), push = new Float64Array(2);
  return {
    state: Float64Array.of(x, y),
    field: (w, out) => {
      loss.evaluate(w[0]!, w[1]!, 2, at);
      const [first, second, c, s] = eigenpairs2(at[3]!, at[4]!, at[5]!);
      push.fill(0);
      if (!Number.isFinite(first)) push.fill(NaN);
      else if (first > (1 - MARGIN) * threshold) {
        loss.evaluate(w[0]!, w[1]!, 3, at);
        thirdDerivatives(at, c, s, slopes);
        const along = (k: number) => rate * (slopes[2 * k]! * at[1]! + slopes[2 * k + 1]! * at[2]!);
        const a11 = (threshold - first) / RELAXATION_TIME + along(0);
        if (rank === 1 || second <= (1 - MARGIN) * threshold) covariance1(a11, rate, slopes, push);
        else covariance2(a11, along(1), (threshold - second) / RELAXATION_TIME + along(2), slopes, rate, push);
      }
      out[0] = -rate * (at[1]! + 0.5 * push[0]!);
      out[1] = -rate * (at[2]! + 0.5 * push[1]!);
    },
    settle: null,
    firstStep: 0,
    timePerStep: 1,
    midpoint: "three_point",
    place: firstTwo,
    predicted: firstTwo,
  };
}

/** dH_11, dH_12, dH_22, two entries each, for u_1 = (c, s) and u_2 = (-s, c). */
function thirdDerivatives(at: Derivatives, c: number, s: number, out: Float64Array): void {
  const xxx = at[6]!, xxy = at[7]!, xyy = at[8]!, yyy = at[9]!;
  out[0] = c * c * xxx + 2 * c * s * xxy + s * s * xyy;
  out[1] = c * c * xxy + 2 * c * s * xyy + s * s * yyy;
  out[2] = -c * s * xxx + (c * c - s * s) * xxy + c * s * xyy;
  out[3] = -c * s * xxy + (c * c - s * s) * xyy + c * s * yyy;
  out[4] = s * s * xxx - 2 * c * s * xxy + c * c * xyy;
  out[5] = s * s * xxy - 2 * c * s * xyy + c * c * yyy;
}

/** Σ_ij X_ij dH_ij for one watched eigenvalue: X = max(0, -A/B). */
function covariance1(a: number, rate: number, slopes: Float64Array, push: Float64Array): void {
  if (a >= 0) return;
  const b = 0.5 * rate * (slopes[0]! ** 2 + slopes[1]! ** 2);
  // Without a third derivative no motion keeps the eigenvalue at the threshold.
  const size = b > 0 ? -a / b : NaN;
  push[0] = size * slopes[0]!;
  push[1] = size * slopes[1]!;
}

const ANGLES = 48;

/**
 * The same for two eigenvalues, A = [[a11, a12], [a12, a22]].
 *
 * With two parameters the three slopes dH_ij are linearly dependent, thus B is singular; along its
 * kernel X can be moved to where it has rank one, without a change of the force: a solution
 * X = r u uᵀ always exists. Among those, (1/2)<X, B[X]> + <A, X> is smallest at r = -l/q with
 * l = uᵀAu < 0, q = (η/2) |Σ u_i u_j dH_ij|², for the u where l²/q is largest.
 */
function covariance2(
  a11: number, a12: number, a22: number, slopes: Float64Array, rate: number, push: Float64Array,
): void {
  if (a11 >= 0 && a22 >= 0 && a11 * a22 >= a12 * a12) return;
  // u uᵀ = [[1 + C, S], [S, 1 - C]]/2, with C and S of twice the angle of u.
  const l0 = (a11 + a22) / 2, lc = (a11 - a22) / 2, ls = a12;
  const [p0, q0, p1, q1, p2, q2] = slopes as unknown as number[];
  const x0 = (p0! + p2!) / 2, xc = (p0! - p2!) / 2, xs = p1!;
  const y0 = (q0! + q2!) / 2, yc = (q0! - q2!) / 2, ys = q1!;
  const line = (c: number, s: number) => l0 + lc * c + ls * s;
  /** Half the derivative of log(l²/q), times l q: a descent below 0, a rise above. */
  const rise = (angle: number): number => {
    const c = Math.cos(angle), s = Math.sin(angle);
    const dx = x0 + xc * c + xs * s, dy = y0 + yc * c + ys * s;
    const l = line(c, s), dl = -lc * s + ls * c;
    const q = dx * dx + dy * dy, dq = 2 * (dx * (-xc * s + xs * c) + dy * (-yc * s + ys * c));
    return -(dl * q - 0.5 * l * dq);
  };
  let best = -1, found = 0;
  for (let k = 0; k < ANGLES; k++) {
    const angle = (2 * Math.PI * k) / ANGLES, c = Math.cos(angle), s = Math.sin(angle);
    const l = line(c, s);
    if (l >= 0) continue;
    const gain = (l * l) / ((x0 + xc * c + xs * s) ** 2 + (y0 + yc * c + ys * s) ** 2);
    if (gain > best) [best, found] = [gain, angle];
  }
  if (best < 0) {
    // Where l is negative only between two angles of the grid: around the lowest eigenvector of A.
    found = Math.atan2(-ls, -lc);
  }
  let low = found - (2 * Math.PI) / ANGLES, high = found + (2 * Math.PI) / ANGLES;
  // l < 0: the gain rises where `rise` is positive.
  for (let i = 0; i < 60 && high - low > 1e-16; i++) {
    const middle = 0.5 * (low + high);
    if (rise(middle) > 0) low = middle;
    else high = middle;
  }
  const angle = 0.5 * (low + high), c = Math.cos(angle), s = Math.sin(angle);
  const dx = x0 + xc * c + xs * s, dy = y0 + yc * c + ys * s;
  const size = -line(c, s) / (0.5 * rate * (dx * dx + dy * dy));
  push[0] = size > 0 ? size * dx : 0;
  push[1] = size > 0 ? size * dy : 0;
}
