/** Everything of the page that draws nothing, for its tests. */

export * from "./descent.js";
export * from "./flows/ball.js";
export * from "./flows/central.js";
export * from "./flows/contacts.js";
export * from "./flows/flow.js";
export * from "./flows/gradient.js";
export * from "./flows/mechanics.js";
export * from "./flows/parity.js";
export * from "./flows/rod.js";
export * from "./formula.js";
export * from "./integrator.js";
export * from "./linear.js";
export * from "./losses.js";
export * from "./simulation.js";
