/** Scenes to begin with: each is an address. */

export interface Scene {
  title: string;
  about: string;
  address: string;
}

export const SCENES: readonly Scene[] = [
  {
    title: "The edge of stability",
    about: "The valley sharpens up to the threshold",
    address: "loss=valley&x=0&y=6&rate=0.3&flows=gradient.central.rod.parity",
  },
  {
    title: "A cycle of two",
    about: "Beyond the edge, two points for ever",
    address: "loss=quartic&x=0.05&y=1&rate=1&flows=gradient.rod.parity&speed=30",
  },
  {
    title: "Towards flat minima",
    about: "Large steps walk along the minima",
    address: "loss=product&x=2.5&y=0.5&rate=0.4&flows=gradient.corrected.central.parity&speed=15",
  },
  {
    title: "A ball over pits",
    about: "Too large to fall in, it rolls on",
    address: "loss=pits&x=0.67&y=-1&rate=0.05&flows=gradient.ball&radius=0.3&speed=40",
  },
  {
    title: "A particle on the ring",
    about: "It slides, swings and comes to rest",
    address: "loss=ring&x=1.45&y=0.25&rate=0.05&flows=gradient.mechanics&friction=0.15&speed=60",
  },
  {
    title: "With momentum",
    about: "The threshold moves to 2(1 + β)/η",
    address: "loss=valley&x=0.02&y=6.2&rate=0.45&momentum=0.5&flows=gradient.corrected.rod.parity",
  },
  {
    title: "Your own formula",
    about: "Write any loss of x and y",
    address: "loss=formula&flows=gradient.central.rod.parity&speed=30",
  },
];
