/**
 * Takes frames in through MQTT.js and makes an object of each, as a dashboard or a Node-RED flow does.
 *
 * node reader.js FOLDER PORT TOPIC FORM COUNT: FOLDER has node_modules/mqtt, FORM is frame, json or bin; `all` is said
 * after COUNT frames, with a sum over them that only who has decoded each knows.
 */

const { createRequire } = require("node:module");
const { decode } = require("../../../shared/sat_js/sat-bin.js");

const [folder, port, topic, form, count] = process.argv.slice(2);
const mqtt = createRequire(`${folder}/`)("mqtt");
const say = (event, more) => process.stdout.write(JSON.stringify({ event, ...more }) + "\n");

let seen = 0;
let sum = 0;
const texts = (frame) => { sum += frame.id + parseInt(frame.data.slice(0, 2), 16); seen++; };
const take = {
  frame: (payload) => texts(JSON.parse(payload)),
  json: (payload) => JSON.parse(payload).frames.forEach(texts),
  bin: (payload) => { for (const frame of decode(payload).frames()) { sum += frame.id + frame.data[0]; seen++; } },
}[form];

const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, { keepalive: 60 });
client.on("message", (_topic, payload) => {
  take(payload);
  if (seen === Number(count)) say("all", { sum, cpu_us: process.cpuUsage(before).user + process.cpuUsage(before).system });
});
let before;
client.on("connect", () => client.subscribe(topic, { qos: 1 }, () => { before = process.cpuUsage(); say("ready"); }));
