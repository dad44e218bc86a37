// What the JavaScript decoder makes of the batches named on the command line, as one JSON object: by ES module, by
// require, and as the text of a Node-RED function node, which runs in a context of its own. All must agree.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import vm from "node:vm";

const [folder, ...paths] = process.argv.slice(2);
const { decode } = await import(`${folder}/sat-bin.mjs`);
const required = createRequire(import.meta.url)(`${folder}/sat-bin.js`);
const script = readFileSync(`${folder}/sat-bin.js`, "utf8");
const node = vm.runInNewContext(`(function (msg) {\n${script}\nreturn decode(msg.payload);\n})`, { Buffer });

function dump(decoder, payload) {
  let batch;
  try {
    batch = decoder(payload);
  } catch (error) {
    return { refused: true, message: error.message };
  }
  const frames = [...batch.frames()].map(({ seq, t, ns, data, ...rest }, i) => {
    const columns = batch.sec(i) + batch.nsec(i) / 1e9 === t && batch.len(i) === (rest.dlc ?? data.length);
    const numbered = seq === (batch.header.seq ?? 0) + i;
    return { ns: String(ns), t, ...rest, data: Buffer.from(data).toString("hex"), right: columns && numbered };
  });
  return { header: batch.header, frames, copied: frames.length > 0 && batch.data(0).buffer !== payload.buffer };
}

const dumps = {};
for (const path of paths) {
  // One byte further on than aligned: records may lie anywhere in a payload.
  const payload = Buffer.concat([Buffer.from([0]), readFileSync(path)]).subarray(1);
  const plain = new Uint8Array(payload.buffer, payload.byteOffset, payload.length);
  const seen = [dump(decode, plain), dump(required.decode, payload), dump((p) => node({ payload: p }), payload)];
  const texts = seen.map((one) => JSON.stringify(one));
  if (!texts.every((text) => text === texts[0])) throw new Error(`${path}: ${texts.join("\n")}`);
  dumps[path] = seen[0];
}
process.stdout.write(JSON.stringify(dumps));
