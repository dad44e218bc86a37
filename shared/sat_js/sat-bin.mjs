// `sat-bin.js` as an ES module, for Node.js and browsers: import { decode } from "./sat-bin.mjs".
import "./sat-bin.js";

export const { decode } = globalThis.satBin;
