/** The page's own numerics against what eosflows computes, in reference.json. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";
import * as core from "../build/core.mjs";

const reference = JSON.parse(await readFile(new URL("../reference.json", import.meta.url), "utf8"));
const TOLERANCE = 1e-8;
const settings = new Map(reference.settings.map((setting) => [setting.loss, setting]));

function close(found, expected, what, tolerance = TOLERANCE) {
  assert.equal(found.length, expected.length, what);
  // Relative to the largest entry: small ones are differences of large ones.
  const scale = 1 + Math.max(...expected.map(Math.abs));
  let worst = 0;
  for (let i = 0; i < expected.length; i++) worst = Math.max(worst, Math.abs(found[i] - expected[i]) / scale);
  assert.ok(worst <= tolerance, `${what}: off by ${worst}: ${found} instead of ${expected}`);
  return worst;
}

const lossOf = (name) => core.lossOf(name, settings.get(name).formula ?? "");

function flowOf({ loss: name, flow, momentum = 0, rank = 2, radius, friction, velocity }, [x, y]) {
  const loss = lossOf(name), { rate } = settings.get(name);
  const descent = new core.Descent(loss, rate, momentum);
  switch (flow) {
    case "gradient": return core.gradientFlow(descent, x, y);
    case "corrected": return core.correctedFlow(descent, x, y);
    case "central": return core.centralFlow(descent, rank, x, y);
    case "rod": return core.rodFlow(descent, rank, x, y);
    case "parity": return core.parityFlow(descent, x, y);
    case "ball": return core.ballFlow(new core.Ball(loss, rate, radius), [x, y]);
    case "mechanics": {
      const made = core.mechanicsFlow(loss, rate, friction, x, y);
      made.state.set(velocity, 2);
      return made;
    }
  }
}

const named = ({ loss, flow, momentum = 0, rank, radius }) =>
  [loss, flow, rank && `rank ${rank}`, momentum && `momentum ${momentum}`, radius && `radius ${radius}`].filter(Boolean).join(", ");

test("derivatives of every loss up to order three", () => {
  for (const { loss, point, derivatives } of reference.settings) {
    const out = core.derivatives();
    lossOf(loss).evaluate(point[0], point[1], 3, out);
    close([...out], derivatives, loss, 1e-12);
  }
});

test("the start and the vector field of every flow", () => {
  for (const entry of reference.fields) {
    const flow = flowOf(entry, entry.start), out = new Float64Array(flow.state.length);
    close([...flow.state], entry.state, `state of ${named(entry)}`);
    flow.field(flow.state, out);
    close([...out], entry.field, `field of ${named(entry)}`);
  }
});

test("paths of flows", () => {
  for (const entry of reference.paths) {
    const flow = flowOf(entry, entry.start);
    // A ball that slides along a crease stops at it as closely as the tolerance has it.
    const creases = entry.flow === "ball" && entry.loss === "pits";
    const tolerances = creases
      ? { relative: 1e-8, absolute: 1e-12, longest: 0.25, attempts: 100_000 }
      : { relative: 1e-11, absolute: 1e-14, longest: 1, attempts: 100_000 };
    const integrator = new core.Integrator(flow.state, flow.field, tolerances, flow.settle);
    const begins = flow.firstStep;
    // The particle's time is its own.
    const length = entry.steps / 4;
    entry.path.forEach((place, i) => {
      const until = entry.path.length === 5 ? i * length : begins + i * length;
      const before = Math.max(begins, until - length);
      if (until > begins) assert.ok(integrator.advance(until - before), named(entry));
      close([...flow.place(flow.state)], place, `${named(entry)} at ${until}`, creases ? 1e-5 : TOLERANCE);
    });
  }
});

test("paths of the discrete methods", () => {
  for (const { loss, rate, momentum = 0, radius, start, path } of reference.discrete) {
    let place = start, advance;
    if (radius === undefined) {
      const descent = new core.Descent(lossOf(loss), rate, momentum);
      const z = descent.start(...start), scratch = new Float64Array(z.length);
      advance = () => (descent.step(z, scratch), [z[0], z[1]]);
    } else {
      const ball = new core.Ball(lossOf(loss), rate, radius);
      advance = () => ball.roll(place);
    }
    path.forEach((expected, step) => {
      if (step > 0) place = advance();
      close(place, expected, `${loss}, momentum ${momentum}, radius ${radius}, step ${step}`);
    });
  }
});

test("tracking errors of a simulation", () => {
  const { start, rate, steps, errors } = reference.tracking;
  const simulation = new core.Simulation({
    loss: "valley", formula: "", start, rate, momentum: 0, radius: 0.1, friction: 1, rank: 2, flows: Object.keys(errors),
  }, 1e-3);
  while (simulation.time < steps) simulation.advance();
  // Its tolerances are those of a picture.
  for (const [name, error] of Object.entries(errors)) {
    const found = simulation.flows.get(name).error;
    assert.ok(Math.abs(found / error - 1) < 1e-3, `${name}: ${found} instead of ${error}`);
  }
});
