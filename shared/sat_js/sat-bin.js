/**
 * Decodes `bin` batches of CAN frames, as docs/reference/bin-batches.md describes them. No dependencies.
 *
 * A plain script: `const { decode } = require("./sat-bin.js")` in Node.js, `<script>` and `satBin.decode` in a browser,
 * and in Node-RED the first lines of a function node, as they are. `sat-bin.mjs` is the same as an ES module.
 */

const ID_FLAGS = [[0x80000000, "ext"], [0x40000000, "rtr"], [0x20000000, "err"]];
const FRAME_FLAGS = [[4, "fd"], [1, "brs"], [2, "esi"], [0x80, "tx"]];

/**
 * A frame: its number in the stream, when it was captured (`t` in seconds, `ns` exact), id, data. A flag that is not
 * set is left out. A remote frame has `dlc`.
 * @typedef {{seq: number, t: number, ns: bigint, id: number, ext?: true, rtr?: true, err?: true, fd?: true,
 *   brs?: true, esi?: true, tx?: true, dlc?: number, data: Uint8Array}} Frame
 */

/**
 * What a batch says of itself, and a way to its frames: `frames()` makes an object for each, the columns beside it
 * read a value of frame i where it lies. All `data` are views of the payload, not copies.
 * @typedef {{header: Object, n: number, size: number, sec: (i: number) => number, nsec: (i: number) => number,
 *   canId: (i: number) => number, len: (i: number) => number, flags: (i: number) => number,
 *   data: (i: number) => Uint8Array, frames: () => Generator<Frame>}} Batch
 */

/**
 * @param {Uint8Array} payload of an MQTT message; a Buffer is one
 * @returns {Batch}
 * @throws {Error} it is no bin batch of version 1; the message says why
 */
function decode(payload) {
  const refuse = (why) => { throw new Error(`no bin batch: ${why}`); };
  if (payload.length < 8 || String.fromCharCode(...payload.subarray(0, 4)) !== "SATF") refuse("SATF is missing");
  if (payload[4] !== 1) refuse(`version ${payload[4]}; version 1 is accepted`);
  const begin = 8 + payload[6] + 256 * payload[7];
  if (begin > 8 + 16384 || begin > payload.length) refuse(`a header of ${begin - 8} bytes; at most 16384, and whole`);
  // Unlike TextDecoder, this is there in a Node-RED function too, and refuses what is no UTF-8.
  const text = Array.from(payload.subarray(8, begin), (byte) => "%" + byte.toString(16).padStart(2, "0"));
  const header = JSON.parse(decodeURIComponent(text.join("")));
  if (header === null || typeof header !== "object" || Array.isArray(header)) refuse("its header is no object");
  const { n, size } = header;
  if (size !== 24 && size !== 80) refuse(`records of ${size} bytes; 24 or 80 are accepted`);
  if (!Number.isInteger(n) || begin + n * size !== payload.length) refuse(`n is ${n}, and the records are not`);

  const view = new DataView(payload.buffer, payload.byteOffset + begin, n * size);
  const batch = {
    header, n, size,
    sec: (i) => view.getUint32(i * size, true),
    nsec: (i) => view.getUint32(i * size + 4, true),
    canId: (i) => view.getUint32(i * size + 8, true),
    len: (i) => view.getUint8(i * size + 12),
    flags: (i) => view.getUint8(i * size + 13),
    data: (i) => {
      const at = begin + i * size + 16;
      return payload.subarray(at, at + Math.min(batch.len(i), size - 16));
    },
    *frames() {
      for (let i = 0; i < n; i++) {
        const [sec, nsec, canId, flags] = [batch.sec(i), batch.nsec(i), batch.canId(i), batch.flags(i)];
        const ns = BigInt(sec) * 1000000000n + BigInt(nsec);
        const frame = { seq: (header.seq ?? 0) + i, t: sec + nsec / 1e9, ns, id: canId & 0x1fffffff };
        for (const [bit, name] of ID_FLAGS) if (canId & bit) frame[name] = true;
        for (const [bit, name] of FRAME_FLAGS) if (flags & bit) frame[name] = true;
        if (frame.rtr) frame.dlc = batch.len(i);
        frame.data = frame.rtr ? payload.subarray(0, 0) : batch.data(i);
        yield frame;
      }
    },
  };
  return batch;
}

globalThis.satBin = { decode };
if (typeof module === "object") module.exports = globalThis.satBin;
