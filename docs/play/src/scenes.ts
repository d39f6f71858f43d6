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
    title: "With momentum",
    about: "A heavy ball bears more sharpness",
    address: "loss=quartic&x=0.05&y=1&rate=1.5&momentum=0.5&flows=corrected.rod.parity&speed=30",
  },
  {
    title: "A particle that slides",
    about: "It swings, and friction stops it",
    address: "loss=formula&x=-1.4&y=2.2&rate=0.02&flows=gradient.mechanics&friction=0.25&speed=60",
  },
  {
    title: "Your own formula",
    about: "Write any loss of x and y",
    address: "loss=formula&flows=gradient.central.rod.parity&speed=30",
  },
];
