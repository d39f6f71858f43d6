/** The rolling ball, and the flow of its centre on the ironed landscape (arXiv 2505.19527). */

import { derivatives, type Loss } from "../losses.js";
import { type Contacts, ContactSearch, EQUAL, signedDistance } from "./contacts.js";
import { FlowError, type Flow } from "./flow.js";

type Pair = readonly [number, number];

const EPSILON = Number.EPSILON;
/** Share of the radius by which a ball may be too near or too far. */
const SLACK = 1e-6;
const ATTEMPTS = 5;
const DROP_ATTEMPTS = 40;
/** A step shorter than this share of the radius has reached a crease, and the ball is put on it. */
const CAUGHT = 1e-5;
/** In units of the radius: how far a ball moves within a step before the grid is searched again. */
const KEEP_SEEDS = 0.1;

/** In the same unit: a ball that moves less from one global search to the next is at rest. */
const AT_REST = 1e-4;

const LOST = "No point was found where the ball touches the landscape: it is too rough there, or not defined.";

/** A ball of a radius that rolls on the graph of a loss. */
export class Ball {
  readonly search: ContactSearch;
  private readonly at = derivatives();

  /**
   * @param equal In units of the radius: distances that differ by less are equal, and the ball then
   *   touches at both points. The larger it is, the longer are the steps along a crease.
   */
  constructor(
    readonly loss: Loss,
    readonly rate: number,
    readonly radius: number,
    readonly equal = EQUAL,
  ) {
    this.search = new ContactSearch(loss);
  }

  /** The centre of a ball that touches at (x, y): its shadow and its height. */
  centre(x: number, y: number): [number, number, number] {
    this.loss.evaluate(x, y, 1, this.at);
    const gx = this.at[1]!, gy = this.at[2]!, w = Math.sqrt(1 + gx * gx + gy * gy);
    return [x - (this.radius / w) * gx, y - (this.radius / w) * gy, this.at[0]! + this.radius / w];
  }

  /**
   * Where to start so that the ball touches and does not cut: at (x, y) itself, or else where it
   * touches when it is dropped from above (x, y).
   *
   * @throws FlowError If there is no such point.
   */
  start(x: number, y: number): { contact: Pair; dropped: boolean } {
    const [cx, cy, ch] = this.centre(x, y);
    const found = this.search.find(cx, cy, ch, this.radius, [x, y], EQUAL * this.radius);
    if (found.converged && found.all[0]!.distance >= this.radius * (1 - SLACK)) return { contact: [x, y], dropped: false };
    const z = Float64Array.of(x, y, this.search.dilation(x, y, this.radius));
    const placed = this.place(z, [x, y], EQUAL * this.radius, DROP_ATTEMPTS);
    if (placed === null) throw new FlowError(LOST);
    return { contact: [placed.all[0]!.x, placed.all[0]!.y], dropped: true };
  }

  /** One step of the discrete rolling ball, from contact to contact; null where no contact is found. */
  roll([x, y]: Pair): Pair | null {
    const [cx, cy, ch] = this.centre(x, y);
    const height = this.at[0]!, gx = this.at[1]!, gy = this.at[2]!;
    const mx = cx - this.rate * gx, my = cy - this.rate * gy, mh = ch - this.rate * (gx * gx + gy * gy);
    const reach = Math.hypot(mx - x, my - y, mh - height);
    const found = this.search.find(mx, my, mh, reach, [x - this.rate * gx, y - this.rate * gy], EQUAL * reach);
    return found.converged ? [found.all[0]!.x, found.all[0]!.y] : null;
  }

  /**
   * Put a centre that is near the landscape, in place, so that the ball touches.
   *
   * @returns The contacts, or null where none was found or the ball could not be placed.
   */
  place(z: Float64Array, last: Pair, band: number, attempts: number): Contacts | null {
    const { radius } = this;
    let guess = last, found: Contacts | null = null, gap = Infinity;
    for (let i = 0; i < attempts; i++) {
      // The first search is global unless the ball rests: it may have come to another wall. The others correct.
      found = this.search.find(z[0]!, z[1]!, z[2]!, radius, guess, band, i === 0 ? AT_REST : KEEP_SEEDS);
      guess = [found.all[0]!.x, found.all[0]!.y];
      const scale = Math.max(Math.abs(z[0]!), Math.abs(z[1]!)) + Math.abs(z[2]!) + radius;
      gap = Math.abs(signedDistance(found.all[0]!, z[2]!) - radius);
      let off = gap;
      for (const contact of found.all) {
        if (contact.carrying) off = Math.max(off, Math.abs(signedDistance(contact, z[2]!) - radius));
      }
      if (off <= 1e-11 * radius + 32 * EPSILON * scale || !found.converged) break;
      this.correct(z, found);
    }
    if (found === null || !found.converged) return null;
    const scale = Math.max(Math.abs(z[0]!), Math.abs(z[1]!)) + Math.abs(z[2]!) + radius;
    return gap <= SLACK * radius + Math.sqrt(EPSILON) * scale ? found : null;
  }

  /**
   * Move the centre, to first order, to where the contacts are at the distance of the radius: with
   * one contact vertically, with several that carry the ball by the shortest way.
   */
  private correct(z: Float64Array, found: Contacts): void {
    const rows: [number, number, number, number][] = [];
    let up = -Infinity;
    for (const contact of found.all) {
      if (!Number.isFinite(contact.distance)) continue;
      const missing = this.radius - signedDistance(contact, z[2]!);
      const w = Math.sqrt(1 + contact.gx ** 2 + contact.gy ** 2);
      up = Math.max(up, w * missing);
      if (contact.carrying) rows.push([-contact.gx / w, -contact.gy / w, 1 / w, missing]);
    }
    if (rows.length < 2) {
      z[2]! += up;
      return;
    }
    // Nᵀ (N Nᵀ + tiny)⁻¹ missing, as (NᵀN + tiny)⁻¹ Nᵀ missing: three unknowns for any number of rows.
    const m = new Float64Array(9), b = new Float64Array(3);
    for (const row of rows) {
      for (let i = 0; i < 3; i++) {
        b[i]! += row[i]! * row[3];
        for (let k = 0; k < 3; k++) m[3 * i + k]! += row[i]! * row[k]!;
      }
    }
    for (let i = 0; i < 3; i++) m[4 * i]! += 1e-13;
    const shift = solve3(m, b);
    for (let i = 0; i < 3; i++) z[i]! += shift[i]!;
  }
}

/** Solve a symmetric positive system of three equations by Cholesky's method. */
function solve3(m: Float64Array, b: Float64Array): Float64Array {
  const l = new Float64Array(9), u = new Float64Array(3);
  for (let i = 0; i < 3; i++) {
    for (let k = 0; k <= i; k++) {
      let sum = m[3 * i + k]!;
      for (let c = 0; c < k; c++) sum -= l[3 * i + c]! * l[3 * k + c]!;
      l[3 * i + k] = i === k ? Math.sqrt(Math.max(sum, 1e-300)) : sum / l[4 * k]!;
    }
  }
  for (let i = 0; i < 3; i++) {
    let sum = b[i]!;
    for (let c = 0; c < i; c++) sum -= l[3 * i + c]! * u[c]!;
    u[i] = sum / l[4 * i]!;
  }
  for (let i = 2; i >= 0; i--) {
    let sum = u[i]!;
    for (let c = i + 1; c < 3; c++) sum -= l[3 * c + i]! * u[c]!;
    u[i] = sum / l[4 * i]!;
  }
  return u;
}

/** The ball's flow, with what is drawn of the ball. */
export interface BallFlow extends Flow {
  /** Where the ball touched last, the nearest contact first. */
  contacts(): Contacts;
}

/**
 * With the slopes G_i where the ball touches and v the shortest vector in their convex hull,
 *
 *     dx/dt = -η v,   dh/dt = -η |v|²:
 *
 * gradient flow on the surface on which the centre can be. The state is the centre, (x, y, h).
 * After each step the ball is put back to where it touches.
 *
 * @param contact Where it touches at the start.
 * @throws FlowError If the ball could not be put there.
 */
export function ballFlow(ball: Ball, contact: Pair): BallFlow {
  const state = Float64Array.from(ball.centre(contact[0], contact[1]));
  const band = ball.equal * ball.radius;
  const first = ball.place(state, contact, band, ATTEMPTS);
  if (first === null) throw new FlowError(LOST);
  let current: Contacts = first;
  let guess: Pair = contact;
  return {
    state,
    field: (z, out) => {
      const found = ball.search.find(z[0]!, z[1]!, z[2]!, ball.radius, guess, band, KEEP_SEEDS);
      if (!found.converged) {
        out.fill(NaN);
        return;
      }
      guess = [found.all[0]!.x, found.all[0]!.y];
      const [vx, vy] = found.velocity;
      out[0] = ball.rate * vx;
      out[1] = ball.rate * vy;
      out[2] = -ball.rate * (vx * vx + vy * vy);
    },
    settle: (z, before) => {
      const move = 2 * Math.hypot(z[0]! - before[0]!, z[1]! - before[1]!, z[2]! - before[2]!);
      // A very short step has reached a crease: what is as near as the step is long counts as touching.
      const wide = move < CAUGHT * ball.radius ? Math.max(move, band) : band;
      const found = ball.place(z, guess, wide, ATTEMPTS);
      if (found === null) return false;
      current = found;
      return true;
    },
    firstStep: 0,
    timePerStep: 1,
    midpoint: "three_point",
    place: (z) => [z[0]!, z[1]!],
    predicted: () => [current.all[0]!.x, current.all[0]!.y],
    contacts: () => current,
  };
}
