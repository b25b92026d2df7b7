// Bytes, Merkle trees (RFC 9162) and the text formats of C2SP, as the auditor's page needs them. The three files
// audit_*.js are put together into one script, in order: formats, checks, page.

const PROOF = "c2sp.org/tlog-proof@v1";
const NOTE_KEY = 1; // kinds of keys: Ed25519 signature of a note
const COSIGNATURE = 4; // cosignature/v1
const AT_ONCE = 1024; // hashes asked for together

const utf8 = (text) => new TextEncoder().encode(text);
const words = new TextDecoder("utf-8");
// A value from a ledger as text; an object's own toString is never called.
const text = (value) =>
  value === undefined || value === null ? "" : typeof value === "object" ? "{…}" : String(value);
const count = (n, noun, many = `${noun}s`) => `${n.toLocaleString("en-GB")} ${n === 1 ? noun : many}`;

// ---- bytes
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const fromHex = (text) => {
  if (typeof text !== "string" || !/^([0-9a-f]{2})*$/.test(text)) throw new Error("this is not hexadecimal");
  return Uint8Array.from(text.match(/../g) || [], (pair) => parseInt(pair, 16));
};
const toBase64 = (bytes) => {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
};
const fromBase64 = (text) => {
  let found = "";
  try {
    found = atob(text);
  } catch {
    throw new Error("this is not base64");
  }
  return Uint8Array.from(found, (letter) => letter.charCodeAt(0));
};
const strictBase64 = (text, length) => {
  const bytes = fromBase64(text);
  if (toBase64(bytes) !== text || (length && bytes.length !== length))
    throw new Error("base64 of another length or form");
  return bytes;
};
const join = (...parts) => {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
};
const same = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);
const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
const hashAll = async (items, bytesOf) => {
  const hashes = [];
  for (let at = 0; at < items.length; at += AT_ONCE) {
    hashes.push(...(await Promise.all(items.slice(at, at + AT_ONCE).map((item) => sha256(bytesOf(item))))));
  }
  return hashes;
};
const unpack = async (id) => {
  const stream = new Blob([fromBase64(byId(id).textContent.trim())]).stream();
  return new Uint8Array(await new Response(stream.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
};
const linesOf = (bytes) => {
  const lines = [];
  if (!bytes.length) return lines;
  let start = 0;
  for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, start)) {
    lines.push(bytes.subarray(start, end));
    start = end + 1;
  }
  lines.push(bytes.subarray(start));
  return lines;
};

// ---- Merkle tree, RFC 9162, section 2.1
const ZERO = Uint8Array.of(0),
  ONE = Uint8Array.of(1);
const node = (left, right) => sha256(join(ONE, left, right));
const split = (n) => {
  let half = 1;
  while (half * 2 < n) half *= 2;
  return half;
};
class Tree {
  constructor(levels) {
    this.levels = levels;
  }
  static async over(leaves) {
    const levels = [leaves];
    for (let below = leaves; below.length > 1; below = levels.at(-1)) {
      const pairs = [];
      for (let i = 0; i + 1 < below.length; i += 2) pairs.push([below[i], below[i + 1]]);
      levels.push(await hashAll(pairs, ([left, right]) => join(ONE, left, right)));
    }
    return new Tree(levels);
  }
  async range(low, high) {
    const size = high - low,
      level = Math.floor(Math.log2(size));
    if (size === 2 ** level) return this.levels[level][low / size];
    const middle = low + split(size);
    return node(await this.range(low, middle), await this.range(middle, high));
  }
  async root(size) {
    return size ? this.range(0, size) : sha256(new Uint8Array());
  }
  async path(index, size) {
    const steps = [];
    for (let low = 0, high = size; high - low > 1;) {
      const middle = low + split(high - low);
      if (index < middle) {
        steps.unshift(await this.range(middle, high));
        high = middle;
      } else {
        steps.unshift(await this.range(low, middle));
        low = middle;
      }
    }
    return steps;
  }
}
const rootFromPath = async (leaf, index, size, path) => {
  if (index >= size) throw new Error("the place is outside the tree");
  let found = leaf,
    place = index,
    last = size - 1,
    used = 0;
  for (; last; place = Math.floor(place / 2), last = Math.floor(last / 2)) {
    const odd = place % 2 === 1;
    if (!odd && place === last) continue;
    if (used === path.length) throw new Error("the path is too short");
    const step = path[used++];
    found = odd ? await node(step, found) : await node(found, step);
  }
  if (used !== path.length) throw new Error("the path is too long");
  return found;
};

// ---- C2SP signed-note, tlog-checkpoint, tlog-cosignature, tlog-proof
const whole = (text) => {
  if (!/^(0|[1-9][0-9]*)$/.test(text) || !Number.isSafeInteger(Number(text)))
    throw new Error("a number is no plain decimal");
  return Number(text);
};
const parseNote = (note) => {
  const end = note.lastIndexOf("\n\n") + 1;
  if (!end || !note.endsWith("\n") || end + 1 >= note.length) throw new Error("the note has no signatures");
  const signatures = note
    .slice(end + 1, -1)
    .split("\n")
    .map((line) => {
      const found = /^\u2014 ([^\s+]+) ([A-Za-z0-9+/]+=*)$/u.exec(line);
      if (!found) throw new Error("a signature line is malformed");
      const data = strictBase64(found[2]);
      return { name: found[1], id: hex(data.subarray(0, 4)), data: data.subarray(4) };
    });
  const text = note.slice(0, end),
    lines = text.split("\n").slice(0, -1);
  if (lines.length < 3 || lines.some((line) => !line || /[\x00-\x1f]/.test(line)))
    throw new Error("the note is no checkpoint");
  return { text, signatures, origin: lines[0], size: whole(lines[1]), root: strictBase64(lines[2], 32) };
};
const parseProof = (text) => {
  const cut = text.indexOf("\n\n"),
    lines = text.slice(0, cut).split("\n");
  if (cut < 0 || lines.shift() !== PROOF) throw new Error("this is no proof");
  if (lines[0] && lines[0].startsWith("extra ")) lines.shift();
  const index = /^index (\S+)$/.exec(lines.shift() || "");
  if (!index) throw new Error("the proof has no index");
  return {
    index: whole(index[1]),
    path: lines.map((line) => strictBase64(line, 32)),
    batch: parseNote(text.slice(cut + 2)),
  };
};
const keyId = async (name, kind, key) =>
  hex((await sha256(join(utf8(`${name}\n`), Uint8Array.of(kind), key))).subarray(0, 4));
const ringOf = async (keys) => {
  const ring = new Map();
  for (const key of keys) {
    const bytes = fromHex(key.public_key);
    for (const kind of [NOTE_KEY, COSIGNATURE]) {
      ring.set(`${key.name} ${await keyId(key.name, kind, bytes)}`, { ...key, kind, bytes });
    }
  }
  return ring;
};
const imported = new Map();
let signaturesChecked = 0;
const verifies = async (key, signature, message) => {
  const name = hex(key);
  if (!imported.has(name)) {
    imported.set(
      name,
      crypto.subtle.importKey("raw", key, "Ed25519", false, ["verify"]).catch(() => null),
    );
  }
  const ready = await imported.get(name);
  signaturesChecked += 1;
  return ready !== null && signature.length === 64 && crypto.subtle.verify("Ed25519", ready, signature, message);
};
const hasEd25519 = async () => {
  // RFC 8032, section 7.1, test 1
  try {
    return await verifies(
      fromHex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"),
      fromHex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
      ),
      new Uint8Array(),
    );
  } catch {
    return false;
  }
};
// Signature lines of keys that the page lists; lines of other keys say nothing.
const signersOf = async (note, ring) => {
  const signers = [];
  for (const line of note.signatures) {
    const key = ring.get(`${line.name} ${line.id}`);
    if (!key) continue;
    if (key.kind === NOTE_KEY) {
      signers.push({ ...key, time: 0, good: await verifies(key.bytes, line.data, utf8(note.text)) });
    } else if (line.data.length !== 72) {
      signers.push({ ...key, time: 0, good: false });
    } else {
      const time = new DataView(line.data.buffer, line.data.byteOffset).getBigUint64(0);
      const message = utf8(`cosignature/v1\ntime ${time}\n${note.text}`);
      signers.push({ ...key, time: Number(time), good: await verifies(key.bytes, line.data.subarray(8), message) });
    }
  }
  return signers;
};
