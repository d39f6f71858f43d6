/**
 * Where a ball touches a landscape, the graph of the loss over the plane, and which way it can roll.
 *
 * The centre of the ball is (x, y) at a height h. A contact is a local minimum q of the distance
 * D(q) = (|q - (x, y)|² + (L(q) - h)²)/2. All of them are searched for: the lowest local minima
 * on a grid over the shadow of the ball, and the last contact, are refined by Newton's method.
 */

import { eigenpairs2 } from "../linear.js";
import { derivatives, type Loss } from "../losses.js";

const CANDIDATES = 33;
const KEPT = 6;
const ITERATIONS = 30;
const HALVINGS = 12;
const TOLERANCE = 1e-12;
const EPSILON = Number.EPSILON;
/** In units of the reach: points closer than this are one contact; distances that differ by less are equal. */
const APART = 1e-5;
export const EQUAL = 1e-6;

/** A local minimum of the distance. */
export interface Contact {
  x: number;
  y: number;
  height: number;
  gx: number;
  gy: number;
  /** Infinite for one that was found twice. */
  distance: number;
  converged: boolean;
  /** True for those that are as near as the nearest. */
  touching: boolean;
  /** True for those that hold the ball, and that its motion keeps touching. */
  carrying: boolean;
}

/** All contacts, the nearest first. */
export interface Contacts {
  all: Contact[];
  /** Minus the shortest vector in the convex hull of the slopes where the ball touches. */
  velocity: readonly [number, number];
  /** True if the nearest contact was found. */
  converged: boolean;
}

/** The distance to a contact, negative where that is above the centre. */
export const signedDistance = (contact: Contact, h: number): number =>
  contact.height > h ? -contact.distance : contact.distance;

/** Finds the contacts of one ball after the other, in one landscape. */
export class ContactSearch {
  private readonly at = derivatives();
  private readonly values = new Float64Array((CANDIDATES + 2) ** 2).fill(Infinity);
  private seeds: [number, number][] = [];
  private seededAt: readonly [number, number, number] | null = null;

  constructor(readonly loss: Loss) {}

  /**
   * @param reach The radius of the disc around the centre's shadow that is searched.
   * @param last A guess of a contact.
   * @param band Distances that differ by less than this are equal.
   * @param keepSeeds How far the centre may be, in units of the reach, from where the grid was last
   *   searched: the contacts are then followed from there. 0 for a search each time.
   */
  find(
    x: number, y: number, h: number, reach: number, last: readonly [number, number], band: number, keepSeeds = 0,
  ): Contacts {
    const seeded = this.seededAt;
    const far = seeded === null || keepSeeds === 0 || Math.hypot(x - seeded[0], y - seeded[1], h - seeded[2]) > keepSeeds * reach;
    if (far) {
      this.seeds = this.lowest(x, y, h, reach);
      this.seededAt = [x, y, h];
    }
    const found = [...this.seeds, last].map(([sx, sy]) => this.refined(x, y, h, sx, sy));
    const contacts = sorted(found, reach, band);
    // Of those that led to the same contact one is enough, and it starts from there.
    this.seeds = contacts.all.map((contact) => [contact.x, contact.y]);
    return contacts;
  }

  /** The height at which a ball over (x, y) touches, to the resolution of the grid. */
  dilation(x: number, y: number, radius: number): number {
    let highest = -Infinity;
    for (let i = 0; i < CANDIDATES; i++) {
      for (let k = 0; k < CANDIDATES; k++) {
        const u = (2 * i) / (CANDIDATES - 1) - 1, v = (2 * k) / (CANDIDATES - 1) - 1;
        const above = 1 - u * u - v * v;
        if (above < 0) continue;
        const cap = this.height(x + radius * u, y + radius * v) + radius * Math.sqrt(above);
        if (Number.isFinite(cap) && cap > highest) highest = cap;
      }
    }
    return highest;
  }

  private height(x: number, y: number): number {
    this.loss.evaluate(x, y, 0, this.at);
    return this.at[0]!;
  }

  /** The lowest local minima of the distance on the grid. */
  private lowest(x: number, y: number, h: number, reach: number): [number, number][] {
    const n = CANDIDATES, width = n + 2, values = this.values;
    const disc = (1 + 3 / (n - 1)) ** 2;
    const coordinate = (i: number) => 1.001 * reach * ((2 * i) / (n - 1) - 1);
    for (let i = 0; i < n; i++) {
      for (let k = 0; k < n; k++) {
        const u = (2 * i) / (n - 1) - 1, v = (2 * k) / (n - 1) - 1;
        let value = Infinity;
        if (u * u + v * v <= disc) {
          const dx = coordinate(i), dy = coordinate(k);
          value = dx * dx + dy * dy + (this.height(x + dx, y + dy) - h) ** 2;
          if (!Number.isFinite(value)) value = Infinity;
        }
        values[(i + 1) * width + k + 1] = value;
      }
    }
    const minima: [number, number, number][] = [];
    for (let i = 1; i <= n; i++) {
      for (let k = 1; k <= n; k++) {
        const at = i * width + k, value = values[at]!;
        if (
          value < Infinity && value <= values[at - 1]! && value <= values[at + 1]! &&
          value <= values[at - width]! && value <= values[at + width]!
        ) {
          minima.push([value, x + coordinate(i - 1), y + coordinate(k - 1)]);
        }
      }
    }
    minima.sort((a, b) => a[0] - b[0]);
    return minima.slice(0, KEPT).map(([, px, py]) => [px, py]);
  }

  /** The local minimum that Newton's method with a line search finds from a start. */
  private refined(x: number, y: number, h: number, startX: number, startY: number): Contact {
    const { at } = this;
    let px = startX, py = startY;
    for (let i = 0; ; i++) {
      this.loss.evaluate(px, py, 2, at);
      const height = at[0]!, gx = at[1]!, gy = at[2]!;
      const ox = px - x, oy = py - y, above = height - h;
      const distance = Math.sqrt(ox * ox + oy * oy + above * above);
      const dx = ox + above * gx, dy = oy + above * gy;
      const squared = gx * gx + gy * gy, across = gx * dx + gy * dy;
      const tangential = Math.sqrt(Math.max(dx * dx + dy * dy - (across * across) / (1 + squared), 0));
      const size = Math.max(Math.abs(px), Math.abs(py)) + Math.abs(h) + Math.abs(height);
      const floor = distance + Math.sqrt(EPSILON) * size + Number.MIN_VALUE;
      const converged = tangential / floor <= TOLERANCE + (64 * EPSILON * size) / floor;
      const finite = Number.isFinite(height) && Number.isFinite(squared);
      if (converged || !finite || i === ITERATIONS - 1) {
        return { x: px, y: py, height, gx, gy, distance, converged: converged && finite, touching: false, carrying: false };
      }
      // Newton's direction with the absolute values of the eigenvalues, which always descends.
      const [first, second, c, s] = eigenpairs2(
        1 + gx * gx + above * at[3]!, gx * gy + above * at[4]!, 1 + gy * gy + above * at[5]!,
      );
      const least = 1e-8 * Math.max(Math.abs(first), Math.abs(second));
      const a = (c * dx + s * dy) / Math.max(Math.abs(first), least);
      const b = (-s * dx + c * dy) / Math.max(Math.abs(second), least);
      const sx = -(a * c - b * s), sy = -(a * s + b * c);
      // Halve the step until the distance does not grow; near the minimum it is flat to rounding.
      const start = ox * ox + oy * oy + above * above;
      const bound = start + 8 * EPSILON * (start + h * h);
      let length = 1;
      for (let k = 0; k < HALVINGS - 1; k++) {
        const qx = px + length * sx, qy = py + length * sy;
        if ((qx - x) ** 2 + (qy - y) ** 2 + (this.height(qx, qy) - h) ** 2 <= bound) break;
        length /= 2;
      }
      px += length * sx;
      py += length * sy;
    }
  }
}

/** Sort what was found, and find out which of it touches. */
function sorted(found: Contact[], reach: number, band: number): Contacts {
  const key = (contact: Contact) => (contact.converged ? contact.distance : Infinity);
  found.sort((a, b) => (key(a) === key(b) ? 0 : key(a) - key(b)));
  const nearest = found[0]!;
  const missed = found.some((contact) => !contact.converged && contact.distance < nearest.distance - band);
  const single = (contact: Contact, index: number): boolean =>
    contact.converged &&
    !found.slice(0, index).some(
      (other) =>
        other.converged &&
        Math.hypot(contact.x - other.x, contact.y - other.y, contact.height - other.height) <= APART * (reach + EPSILON),
    );
  const kept = found.filter((contact, index) => index === 0 || single(contact, index));
  for (const contact of kept) contact.touching = contact.distance <= nearest.distance + band;
  nearest.touching = true;
  const velocity = shortest(kept.filter((contact) => contact.touching));
  return { all: kept, velocity, converged: nearest.converged && !missed };
}

/** Minus the shortest vector in the convex hull of the slopes; marks the contacts that it combines. */
function shortest(contacts: Contact[]): [number, number] {
  let best = Infinity, bx = 0, by = 0;
  let carriers: Contact[] = [];
  for (let i = 0; i < contacts.length; i++) {
    for (let k = i; k < contacts.length; k++) {
      const a = contacts[i]!, b = contacts[k]!;
      const ex = a.gx - b.gx, ey = a.gy - b.gy, squared = ex * ex + ey * ey;
      const share = squared > 0 ? Math.min(1, Math.max(0, (a.gx * ex + a.gy * ey) / squared)) : 0;
      const vx = a.gx - share * ex, vy = a.gy - share * ey, length = vx * vx + vy * vy;
      if (length < best) {
        [best, bx, by] = [length, vx, vy];
        carriers = [...(share < 1 ? [a] : []), ...(share > 0 ? [b] : [])];
      }
    }
  }
  if (contacts.length > 2) {
    // Zero is inside if and only if the slopes leave no gap of half a turn between them.
    const angles = contacts.map((contact) => Math.atan2(contact.gy, contact.gx)).sort((a, b) => a - b);
    const gaps = angles.map((angle, i) => (angles[i + 1] ?? angles[0]! + 2 * Math.PI) - angle);
    if (Math.max(...gaps) < Math.PI) {
      for (const contact of contacts) contact.carrying = true;
      return [0, 0];
    }
  }
  for (const contact of carriers) contact.carrying = true;
  return [-bx, -by];
}
