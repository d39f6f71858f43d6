/** The paths in the landscape: drawn piece by piece as they grow, so that long ones cost no more than short ones. */

import type { Frame } from "./frame.js";
import { drawMarker, LOOKS, property } from "./looks.js";
import type { FlowName, Simulation, Track } from "./simulation.js";

/** How much of a track has been drawn. */
interface Drawn {
  points: number;
  /** Length of the line so far, in pixels, at which its dashes go on. */
  length: number;
}

/** How far a track has come at a time between two steps: where it is, and how many of its points to show. */
export interface Head {
  x: number;
  y: number;
  points: number;
}

/** Where a track is at a time; null where it is not there yet. */
export function headOf(track: Track, clock: number, smooth: boolean): Head | null {
  const elapsed = clock - track.firstStep;
  if (elapsed < 0 || track.steps === 0) return null;
  const before = Math.min(Math.floor(elapsed), track.steps - 1);
  const end = track.pathEnds.at(before);
  const share = elapsed - before;
  if (!smooth || before === track.steps - 1 || share <= 0) {
    return { x: track.path.at(end - 2), y: track.path.at(end - 1), points: end };
  }
  // Between two steps, along the line.
  const position = (end / 2 - 1) + share * ((track.pathEnds.at(before + 1) - end) / 2);
  const index = Math.floor(position), part = position - index;
  const next = Math.min(index + 1, track.path.length / 2 - 1);
  const between = (offset: number) => track.path.at(2 * index + offset) * (1 - part) + track.path.at(2 * next + offset) * part;
  return { x: between(0), y: between(1), points: 2 * (index + 1) };
}

export class Trails {
  private drawn = new Map<Track, Drawn>();

  constructor(private readonly context: CanvasRenderingContext2D, private readonly frame: Frame) {}

  /** Forget what was drawn, and wipe it off. */
  clear(): void {
    this.context.clearRect(0, 0, this.frame.right + 20, this.frame.bottom + 40);
    this.drawn = new Map();
  }

  /** Draw what is new up to a time. */
  draw(simulation: Simulation, clock: number): void {
    const { context, frame } = this;
    context.save();
    context.beginPath();
    context.rect(frame.left, frame.top, frame.width, frame.height);
    context.clip();
    this.dots(simulation.discrete, clock, property("--ink"), 1.9);
    if (simulation.rolling !== null) this.dots(simulation.rolling, clock, property("--orange"), 2.6);
    for (const [name, track] of simulation.flows) this.line(name, track, clock);
    context.restore();
  }

  private line(name: FlowName, track: Track, clock: number): void {
    const head = headOf(track, clock, true);
    if (head === null) return;
    const drawn = this.drawn.get(track) ?? { points: 0, length: 0 };
    if (head.points <= drawn.points) return;
    const { context, frame } = this;
    const look = LOOKS[name];
    context.strokeStyle = property(look.color);
    context.lineWidth = 2.4;
    context.lineJoin = "round";
    context.lineCap = look.dash.length === 0 ? "round" : "butt";
    context.setLineDash([...look.dash]);
    context.lineDashOffset = drawn.length;
    context.beginPath();
    let i = Math.max(0, drawn.points - 2);
    let x = frame.x(track.path.at(i)), y = frame.y(track.path.at(i + 1));
    context.moveTo(x, y);
    for (i += 2; i < head.points; i += 2) {
      const nx = clamped(frame.x(track.path.at(i))), ny = clamped(frame.y(track.path.at(i + 1)));
      context.lineTo(nx, ny);
      drawn.length += Math.hypot(nx - x, ny - y);
      [x, y] = [nx, ny];
    }
    context.stroke();
    drawn.points = head.points;
    this.drawn.set(track, drawn);
  }

  private dots(track: Track, clock: number, color: string, size: number): void {
    const head = headOf(track, clock, false);
    if (head === null) return;
    const drawn = this.drawn.get(track) ?? { points: 0, length: 0 };
    if (head.points <= drawn.points) return;
    const { context, frame } = this;
    const px = (i: number) => clamped(frame.x(track.path.at(i))), py = (i: number) => clamped(frame.y(track.path.at(i + 1)));
    context.setLineDash([]);
    context.strokeStyle = color;
    context.fillStyle = color;
    context.lineWidth = 1;
    context.globalAlpha = 0.22;
    context.beginPath();
    const from = Math.max(0, drawn.points - 2);
    context.moveTo(px(from), py(from));
    for (let i = from + 2; i < head.points; i += 2) context.lineTo(px(i), py(i));
    context.stroke();
    context.globalAlpha = 0.6;
    context.beginPath();
    for (let i = drawn.points; i < head.points; i += 2) {
      context.moveTo(px(i) + size, py(i));
      context.arc(px(i), py(i), size, 0, 2 * Math.PI);
    }
    context.fill();
    context.globalAlpha = 1;
    drawn.points = head.points;
    this.drawn.set(track, drawn);
  }
}

/** What is far outside of the picture is drawn a little outside: canvases do not like huge numbers. */
const clamped = (pixel: number): number => Math.min(2e4, Math.max(-2e4, pixel));

/** Draw the heads of all tracks, and the ball. */
export function drawHeads(
  context: CanvasRenderingContext2D, frame: Frame, simulation: Simulation, clock: number,
): void {
  context.clearRect(0, 0, frame.right + 20, frame.bottom + 40);
  context.save();
  context.beginPath();
  context.rect(frame.left, frame.top, frame.width, frame.height);
  context.clip();
  const edge = property("--card");
  const ballTrack = simulation.flows.get("ball");
  if (ballTrack !== undefined) {
    const head = headOf(ballTrack, clock, true);
    if (head !== null) drawBall(context, frame, head, simulation.settings.radius);
  }
  for (const [name, track] of simulation.flows) {
    const head = headOf(track, clock, true);
    if (head === null) continue;
    const look = LOOKS[name];
    drawMarker(context, look.marker, clamped(frame.x(head.x)), clamped(frame.y(head.y)), 5.5, property(look.color), edge);
  }
  for (const [track, color] of [[simulation.discrete, "--ink"], [simulation.rolling, "--orange"]] as const) {
    const head = track === null ? null : headOf(track, clock, false);
    if (head === null) continue;
    drawMarker(context, "disc", clamped(frame.x(head.x)), clamped(frame.y(head.y)), 4, property(color), edge);
  }
  context.restore();
}

/** The ball as it is seen from above. */
function drawBall(context: CanvasRenderingContext2D, frame: Frame, head: Head, radius: number): void {
  const x = frame.x(head.x), y = frame.y(head.y);
  const rx = Math.abs(frame.x(head.x + radius) - x), ry = Math.abs(frame.y(head.y + radius) - y);
  if (!(rx < 1e4 && ry < 1e4 && rx > 0.5 && ry > 0.5)) return;
  context.beginPath();
  context.ellipse(x, y, rx, ry, 0, 0, 2 * Math.PI);
  context.globalAlpha = 0.16;
  context.fillStyle = property("--orange");
  context.fill();
  context.globalAlpha = 0.8;
  context.lineWidth = 1.2;
  context.strokeStyle = property("--orange");
  context.stroke();
  context.globalAlpha = 1;
}
