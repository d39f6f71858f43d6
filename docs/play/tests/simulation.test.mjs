/** Whatever the settings: nothing throws, nothing that is drawn is not finite, and what stops says why. */

import assert from "node:assert/strict";
import test from "node:test";
import * as core from "../build/core.mjs";

const FORMULAS = [
  "log(1 + 4*(y - x^2)^2) + 0.3*(x - 1)^2", "abs(x) + abs(y)", "sqrt(x) + y^2", "1/x + x + y^2", "exp(x*y)", "x^y", "0", "x", "(x^2 + y^2)^0.25",
];

const base = { loss: "valley", formula: "", start: [0, 6], rate: 0.3, momentum: 0, radius: 0.1, friction: 1, rank: 2, flows: core.FLOWS };

test("forty settings by chance", () => {
  let seed = 7;
  const chance = () => (seed = (seed * 1664525 + 1013904223) >>> 0) / 2 ** 32;
  const one = (of) => of[Math.floor(chance() * of.length)];
  for (let i = 0; i < 40; i++) {
    const { name, start } = one(core.CHOICES);
    const settings = {
      loss: name, formula: one(FORMULAS), start: chance() < 0.5 ? start : [4 * chance() - 2, 4 * chance() - 2], rate: 0.005 * 800 ** chance(),
      momentum: chance() < 0.5 ? 0 : 0.95 * chance(), radius: 0.01 * 200 ** chance(), friction: 5 * chance(), rank: one([1, 2]), flows: core.FLOWS,
    };
    const simulation = new core.Simulation(settings, 0.002);
    while (simulation.time < 20 && !simulation.ended) simulation.advance();
    const about = JSON.stringify(settings);
    for (const track of simulation.tracks) {
      for (const series of [track.path, track.places, track.sharpness]) {
        for (let k = 0; k < series.length; k++) assert.ok(Number.isFinite(series.at(k)), `${track.label}: ${about}`);
      }
      assert.ok(track.stopped === null || /^[A-Z].*\.$/.test(track.stopped), track.stopped);
    }
    const { stopped } = simulation.discrete;
    for (const flow of stopped !== null && simulation.discrete.steps === 0 ? [] : core.FLOWS) {
      assert.ok(simulation.flows.has(flow) || /^[A-Z].*\.$/.test(simulation.missing.get(flow)), `${flow}: ${about}`);
    }
  }
});

test("gradient descent settles on the two-cycle that is known exactly", () => {
  const simulation = new core.Simulation({ ...base, loss: "quartic", start: [0.05, 0], rate: 1, flows: ["rod", "parity"] }, 1e-6);
  while (simulation.time < 400) simulation.advance();
  // a^2 = S - 2/eta = 0.1; the flows know it as the size of the rod, and of d.
  assert.ok(Math.abs(simulation.discrete.placeAt(400)[0] ** 2 - 0.1) < 1e-9);
  const { flow: { state: rod } } = simulation.flows.get("rod"), { flow: { state: parity } } = simulation.flows.get("parity");
  assert.ok(Math.abs(rod[2] - 0.1) < 1e-6, `${rod}`);
  assert.ok(Math.abs(parity[2] ** 2 - 0.1) < 1e-6, `${parity}`);
});

test("central flow keeps the sharpness at the threshold", () => {
  const simulation = new core.Simulation({ ...base, flows: ["central"] }, 1e-3);
  while (simulation.time < 1000) simulation.advance();
  const { sharpness, flow: { state } } = simulation.flows.get("central");
  assert.ok(Math.abs(sharpness.last - 2 / 0.3) < 1e-5, `${sharpness.last}`);
  // The end that is known of it.
  assert.ok(Math.hypot(state[0] + 0.0029946, state[1] - 6.6756492) < 1e-6, `${state}`);
});

test("the parity flow predicts every iterate", () => {
  const simulation = new core.Simulation({ ...base, flows: ["parity"] }, 1e-3);
  let error = 0, moved = 0;
  while (simulation.time < 1000) {
    simulation.advance();
    const t = simulation.time, sign = t % 2 === 0 ? 1 : -1, { state } = simulation.flows.get("parity").flow;
    const [x, y] = simulation.discrete.placeAt(t);
    error += Math.hypot(state[0] + sign * state[2] - x, state[1] + sign * state[3] - y);
    moved += Math.hypot(x, y - 6);
  }
  assert.ok(error / moved < 0.02, `${error / moved}`);
});

test("momentum raises the threshold, and a particle without friction keeps its energy", () => {
  assert.equal(new core.Descent(core.lossOf("ring", ""), 0.5, 0.5).threshold, 6);
  const simulation = new core.Simulation({ ...base, loss: "ring", start: [1.4, 0.3], rate: 0.05, friction: 0, flows: ["mechanics"] }, 1e-3);
  const energy = () => {
    const [x, y, u, v] = simulation.flows.get("mechanics").flow.state, at = core.derivatives();
    simulation.loss.evaluate(x, y, 1, at);
    return 0.5 * (u * u + v * v + (at[1] * u + at[2] * v) ** 2) + at[0];
  };
  const before = energy();
  while (simulation.time < 300) simulation.advance();
  assert.ok(Math.abs(energy() / before - 1) < 1e-4);
});

test("a ball of radius r rests on the two walls of a groove that is too narrow for it", () => {
  // L = x²/2: on contacts ±sqrt(r² - 1), with its centre at (r² + 1)/2, for r = 2.
  const simulation = new core.Simulation(
    { ...base, loss: "formula", formula: "x^2/2 + 0*y", start: [3, 0], rate: 0.02, radius: 2, flows: ["ball"] }, 1e-3,
  );
  while (simulation.time < 60) simulation.advance();
  const { ball } = simulation, [x, , h] = ball.flow.state;
  assert.ok(Math.abs(x) < 1e-5 && Math.abs(h - 2.5) < 1e-5, `${[x, h]}`);
  assert.deepEqual(ball.flow.contacts().all.filter((contact) => contact.touching).map((contact) => Math.abs(contact.x).toFixed(4)), ["1.7321", "1.7321"]);
});
