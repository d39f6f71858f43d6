/** How each curve looks: a colour of Okabe and Ito's set, a dash pattern and a marker of its own. */

import type { FlowName } from "./simulation.js";

export type Marker = "disc" | "square" | "triangle" | "diamond" | "cross" | "ring" | "wedge";

export interface Look {
  /** The custom property of the style sheet that has the colour, which depends on light or dark. */
  color: string;
  dash: readonly number[];
  marker: Marker;
}

export const LOOKS: Readonly<Record<FlowName, Look>> = {
  gradient: { color: "--blue", dash: [], marker: "disc" },
  corrected: { color: "--sky", dash: [11, 3], marker: "square" },
  central: { color: "--vermillion", dash: [7, 4], marker: "triangle" },
  rod: { color: "--green", dash: [9, 3, 2, 3], marker: "diamond" },
  parity: { color: "--purple", dash: [3, 3], marker: "cross" },
  ball: { color: "--orange", dash: [], marker: "ring" },
  mechanics: { color: "--yellow", dash: [12, 3, 2, 3, 2, 3], marker: "wedge" },
};

/** Draw a marker around a point, filled in the colour `fill` with an outline in `edge`. */
export function drawMarker(
  context: CanvasRenderingContext2D, marker: Marker, x: number, y: number, size: number, fill: string, edge: string,
): void {
  context.save();
  context.setLineDash([]);
  context.lineJoin = "round";
  context.beginPath();
  const corners = (points: readonly (readonly [number, number])[]) => {
    points.forEach(([dx, dy], i) => (i === 0 ? context.moveTo(x + size * dx, y + size * dy) : context.lineTo(x + size * dx, y + size * dy)));
    context.closePath();
  };
  switch (marker) {
    case "disc":
    case "ring": context.arc(x, y, size, 0, 2 * Math.PI); break;
    case "square": context.rect(x - 0.9 * size, y - 0.9 * size, 1.8 * size, 1.8 * size); break;
    case "triangle": corners([[0, -1.25], [1.15, 0.85], [-1.15, 0.85]]); break;
    case "wedge": corners([[0, 1.25], [1.15, -0.85], [-1.15, -0.85]]); break;
    case "diamond": corners([[0, -1.35], [1.2, 0], [0, 1.35], [-1.2, 0]]); break;
    case "cross": corners([
      [-0.45, -1.2], [0.45, -1.2], [0.45, -0.45], [1.2, -0.45], [1.2, 0.45], [0.45, 0.45],
      [0.45, 1.2], [-0.45, 1.2], [-0.45, 0.45], [-1.2, 0.45], [-1.2, -0.45], [-0.45, -0.45],
    ]); break;
  }
  context.lineWidth = marker === "ring" ? 5 : 3;
  context.strokeStyle = edge;
  context.stroke();
  if (marker === "ring") {
    context.lineWidth = 2.4;
    context.strokeStyle = fill;
    context.stroke();
  } else {
    context.fillStyle = fill;
    context.fill();
  }
  context.restore();
}

/** A canvas with a sample of a line, for a legend. */
export function swatch(look: Look | null): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.setAttribute("aria-hidden", "true");
  canvas.className = "sample";
  paintSwatch(canvas, look);
  return canvas;
}

/** Paint a sample of a line, or of the iterates where the look is null. */
export function paintSwatch(canvas: HTMLCanvasElement, look: Look | null): void {
  const width = 46, height = 16, ratio = 2;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = canvas.getContext("2d")!;
  context.scale(ratio, ratio);
  const ink = look === null ? property("--ink") : property(look.color);
  context.strokeStyle = ink;
  if (look === null) {
    context.lineWidth = 0.8;
    context.beginPath();
    const points = [[3, 12], [13, 4], [23, 12], [33, 4], [43, 12]] as const;
    for (const [x, y] of points) context.lineTo(x, y);
    context.stroke();
    for (const [x, y] of points) {
      context.beginPath();
      context.arc(x, y, 2, 0, 2 * Math.PI);
      context.fillStyle = ink;
      context.fill();
    }
    return;
  }
  context.lineWidth = 2.4;
  context.setLineDash([...look.dash]);
  context.beginPath();
  context.moveTo(1, height / 2);
  context.lineTo(width - 7, height / 2);
  context.stroke();
  drawMarker(context, look.marker, width - 7, height / 2, 4, ink, property("--card"));
}

const palette = new Map<string, string>();

/** The value of a custom property of the style sheet; kept, since it is asked for at every frame. */
export function property(name: string): string {
  let value = palette.get(name);
  if (value === undefined) {
    value = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    palette.set(name, value);
  }
  return value;
}

/** To be called when the colours of the style sheet have changed. */
export const forgetColors = (): void => palette.clear();
