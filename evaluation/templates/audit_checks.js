// What is checked of a ledger: its chain, its keys, its checkpoints, and what others signed of it.

const GENESIS = "0".repeat(64);
const KEY_LABEL = "wardround/v1/ledger-key";
const NAMED = 6; // faults of one kind that are named

// ---- the ledger: canonical lines, each with the hash of the line before
const sorted = (value) => {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  const copy = Object.create(null);
  for (const key of Object.keys(value).sort()) copy[key] = sorted(value[key]);
  return copy;
};
const canonical = (value) => {
  // RFC 8785; numbers as names of fields would be moved by the engine, and are refused
  try {
    return JSON.stringify(sorted(value));
  } catch {
    return "";
  }
};
const parseEntry = (line) => {
  try {
    const entry = JSON.parse(words.decode(line));
    return entry !== null && typeof entry === "object" && !Array.isArray(entry) ? entry : null;
  } catch {
    return null;
  }
};
const fingerprint = async (key) => {
  const digest = await sha256(key),
    found = [];
  for (let i = 0; i < 16; i += 2) {
    const value = digest[i] * 256 + digest[i + 1],
      c = "bdfghjklmnprstvz",
      v = "aiou";
    found.push(c[value >> 12] + v[(value >> 10) & 3] + c[(value >> 6) & 15] + v[(value >> 4) & 3] + c[value & 15]);
  }
  return found.join("-");
};
const transcript = (...parts) =>
  join(
    ...parts.flatMap((part) => {
      const length = new Uint8Array(4);
      new DataView(length.buffer).setUint32(0, part.length);
      return [length, part];
    }),
  );

class Report {
  constructor(party) {
    this.party = party;
    this.items = [];
    this.cosigned = 0;
  }
  say(state, text) {
    this.items.push({ state, text });
  }
  pass(text) {
    this.say("pass", text);
  }
  fail(text) {
    this.say("fail", text);
  }
  open(text) {
    this.say("open", text);
  }
  note(text) {
    this.say("note", text);
  }
  // Either what is wrong, the first few of it, or one sentence that it is right.
  settle(faults, good) {
    faults.slice(0, NAMED).forEach((text) => this.fail(text));
    if (faults.length > NAMED) this.fail(`${count(faults.length - NAMED, "more fault")} of this kind.`);
    if (!faults.length && good) this.pass(good);
  }
  get state() {
    return ["fail", "open"].find((state) => this.items.some((item) => item.state === state)) || "pass";
  }
}

const checkChain = async (ledger, report) => {
  const { party, lines, entries, hashes } = ledger,
    faults = [];
  entries.forEach((entry, i) => {
    if (!entry) faults.push(`Entry ${i} is no JSON object.`);
    else if (canonical(entry) !== words.decode(lines[i])) faults.push(`Entry ${i} is not in canonical form.`);
    else if (entry.sequence !== i)
      faults.push(`Entry ${i} says that it is entry ${text(entry.sequence).slice(0, 20)}.`);
    else if (entry.owner !== party.owner) faults.push(`Entry ${i} is of another ledger's owner.`);
    if (!entry || entry.previous === (i ? hex(hashes[i - 1]) : GENESIS)) return;
    faults.push(
      i
        ? `Entry ${i - 1} was changed, or is not the one before entry ${i}: entry ${i} names another hash.`
        : "Entry 0 names an entry before it: the beginning is missing.",
    );
  });
  report.settle(faults, `Each of ${count(lines.length, "entry", "entries")} names the SHA-256 of the one before it.`);
};

// Ledger keys by the entries that announce them; the identity and the key itself sign for each.
const checkKeys = async (ledger, report, ed25519) => {
  const { party, entries } = ledger,
    announced = [],
    faults = [];
  const identity = fromHex(party.public_key),
    origin = `wardround/ledger/${hex(await sha256(identity))}`;
  for (const [number, entry] of entries.entries()) {
    if (!entry || entry.kind !== "key") continue;
    try {
      const facts = entry.facts || {},
        key = fromHex(facts.public_key),
        signature = fromHex(facts.signature);
      const before = announced.length ? announced.at(-1).key : new Uint8Array(),
        place = new Uint8Array(8);
      new DataView(place.buffer).setBigUint64(0, BigInt(number));
      const signed = transcript(utf8(KEY_LABEL), utf8(origin), place, fromHex(entry.previous), before, key);
      if (facts.identity !== party.public_key) throw new Error("another identity");
      if (ed25519) {
        const good =
          (await verifies(identity, signature.subarray(0, 64), signed)) &&
          (await verifies(key, signature.subarray(64), signed)) &&
          (!facts.previous_signature || (await verifies(before, fromHex(facts.previous_signature), signed)));
        if (!good) throw new Error("a wrong signature");
        if (before.length && !facts.previous_signature) {
          report.note(
            `The key of entry ${number} was not signed by the key before it: it was lost, or somebody has the identity.`,
          );
        }
      }
      announced.push({ number, key });
    } catch {
      faults.push(`Entry ${number} announces a ledger key that the identity does not vouch for.`);
    }
  }
  report.settle(
    faults,
    announced.length && ed25519 ? `The identity vouches for ${count(announced.length, "ledger key")}.` : "",
  );
  return { announced, origin };
};

// One checkpoint: is it of these entries, is it signed by the owner's key in force, and have others signed it?
// `say` takes what is wrong; `report` and `sums` collect what is right.
const checkRoot = async (ledger, note, name, sums, say) => {
  const { party, lines, tree } = ledger;
  if (party.left_out) return;
  if (note.size > lines.length) {
    say(
      `${name} was signed, but the ledger here has ${count(lines.length, "entry", "entries")}: it was cut, and the end is missing.`,
    );
  } else if (!same(await tree.root(note.size), note.root)) {
    say(
      `${name} has another Merkle root than these entries: one of entries ${sums.sound} to ${note.size - 1} was changed, or the checkpoint is forged.`,
    );
  } else {
    sums.roots += 1;
    sums.sound = note.size;
  }
};
const checkOwner = async (party, note, name, context, say) => {
  const { ring, keys, listed } = context;
  const inForce = keys.announced.filter((key) => key.number < note.size).at(-1);
  if (!party.left_out && !inForce) {
    say(`${name} has no key: no entry before it announces one.`);
    return;
  }
  // The key that an entry announced, under the ledger's own name and under any that the page lists for it.
  const known = inForce && listed.filter((each) => each.public_key === hex(inForce.key)).map((each) => each.name);
  const named =
    inForce &&
    [keys.origin, ...known].map((each) => ({
      name: each,
      owner: party.owner,
      use: "ledger",
      public_key: hex(inForce.key),
    }));
  const own = (await signersOf(note, inForce ? await ringOf(named) : ring)).filter(
    (key) => key.kind === NOTE_KEY && key.owner === party.owner && key.use === "ledger",
  );
  if (!own.length) say(`${name} is not signed by the ledger's key in force.`);
  else if (own.some((key) => !key.good)) say(`${name} has a wrong signature of ${party.owner}: it is forged.`);
};
const checkProof = async (party, checkpoint, note, context, sums, say) => {
  const { page, ring, ed25519 } = context;
  const proof = parseProof(checkpoint.proof),
    batch = proof.batch;
  const label = `the batch ${batch.origin.split("/").pop()} that covers ${checkpoint.size} entries`;
  const leaf = await sha256(join(ZERO, utf8(note.text))); // what is signed is the leaf, not who signed it
  if (!same(await rootFromPath(leaf, proof.index, batch.size, proof.path), batch.root)) {
    throw new Error("the path leads to another root");
  }
  const earlier = page.batches.get(batch.origin);
  if (earlier && !same(earlier, batch.root)) {
    say(`There are two different batches of one number: ${label}. The coordinator showed parties different things.`);
  }
  page.batches.set(batch.origin, batch.root);
  if (!ed25519) return false;
  const signers = await signersOf(batch, ring);
  for (const key of signers.filter((each) => !each.good)) say(`The signature of ${key.owner} under ${label} is wrong.`);
  const valid = signers.filter((each) => each.good && each.use === "identity");
  if (!valid.some((key) => key.kind === NOTE_KEY && page.coordinators.has(key.owner))) {
    say(`The coordinator has not signed ${label}.`);
  }
  const cosigned = valid.filter((key) => key.kind === COSIGNATURE);
  for (const claimed of checkpoint.cosigners) {
    if (!cosigned.some((key) => key.name === claimed.name && key.time === claimed.time)) {
      say(`The cosignature of ${claimed.name}, which the table names, is not under ${label}.`);
    }
  }
  sums.cosignatures += cosigned.length;
  return valid.some((key) => key.owner !== party.owner);
};
const checkCheckpoints = async (ledger, report, context) => {
  const { party } = ledger,
    { page, keys, ed25519 } = context,
    faults = [],
    origins = new Set();
  const sums = { sound: 0, roots: 0, cosignatures: 0 };
  const listed = page.keys.filter((key) => key.owner === party.owner && key.use === "ledger");
  const unknown = party.left_out > 0 && !listed.length;
  if (unknown && party.checkpoints.length)
    report.open("The keys that sign this ledger's checkpoints are not in the page.");
  for (const checkpoint of party.checkpoints) {
    const name = `The checkpoint of ${count(checkpoint.size, "entry", "entries")}`,
      before = faults.length;
    const say = (text) => faults.push(text);
    let note;
    try {
      note = parseNote(checkpoint.note);
    } catch (error) {
      say(`${name} cannot be read: ${error.message}.`);
      continue;
    }
    if (note.size !== checkpoint.size) {
      say(`${name} is of ${note.size} entries by its note.`);
      continue;
    }
    origins.add(note.origin);
    if (keys.announced.length && note.origin !== keys.origin) say(`${name} is of another log.`);
    await checkRoot(ledger, note, name, sums, say);
    if (ed25519 && !unknown) await checkOwner(party, note, name, { ...context, listed }, say);
    if (checkpoint.proof === null) continue;
    try {
      const others = await checkProof(party, checkpoint, note, context, sums, say);
      if (others && faults.length === before) report.cosigned = Math.max(report.cosigned, note.size);
    } catch (error) {
      say(`${name} is not proven to be in its batch: ${error.message}.`);
    }
  }
  if (origins.size > 1) faults.push("The checkpoints are of different logs.");
  const all = party.checkpoints.length,
    proven = party.checkpoints.filter((each) => each.proof !== null).length;
  report.settle(faults, "");
  if (faults.length || !all) return;
  if (!party.left_out)
    report.pass(`At ${count(sums.roots, "checkpoint")} the entries give the signed Merkle root (RFC 9162).`);
  if (ed25519 && !unknown) report.pass(`${count(all, "checkpoint")} signed by the ledger's key (Ed25519).`);
  const signed = ed25519 ? `, with ${count(sums.cosignatures, "good cosignature")}` : "";
  if (proven) report.pass(`${count(proven, "checkpoint")} proven to be in batches${signed}.`);
};

const checkParty = async (ledger, page, ring, ed25519) => {
  const { party, lines, entries } = ledger,
    report = new Report(party);
  const problem = party.verification.problem;
  if (problem) report.fail(`Offline verification, when this page was made, found: ${problem}`);
  if ((await fingerprint(fromHex(party.public_key))) !== party.words)
    report.fail("The words of the fingerprint are not those of the public key.");
  if (party.left_out) {
    report.open(
      `${count(party.left_out, "entry", "entries")} of this ledger are not in this page. Check them with: wardround audit verify`,
    );
  } else if (lines.length !== party.length) {
    report.fail(
      `The page holds ${count(lines.length, "entry", "entries")} of ${party.length}: entries were cut off or added.`,
    );
  }
  if (!ed25519) report.open("This browser cannot check Ed25519 signatures. Hashes were checked, signatures were not.");
  let keys = { announced: [], origin: "" };
  if (!party.left_out) {
    await checkChain(ledger, report);
    keys = await checkKeys(ledger, report, ed25519);
    const closed = entries.some((entry) => entry && entry.kind === "close" && entry.study === page.study_sha256);
    if (page.complete && !closed)
      report.fail("The study is closed, but this ledger has no entry that closes it: the end is missing.");
  }
  await checkCheckpoints(ledger, report, { page, ring, keys, ed25519 });
  if (ed25519) {
    const { cosigned_entries: claimed } = party.verification;
    if (report.cosigned < claimed && report.state !== "fail")
      report.fail(`The page says that ${claimed} entries are cosigned, but what is here proves ${report.cosigned}.`);
    if (report.cosigned)
      report.note(
        `Others have signed for the first ${count(report.cosigned, "entry", "entries")}. Entries after them, with their owner's word only: ${party.length - report.cosigned}.`,
      );
    else if (party.role === "site" && report.state === "pass")
      report.open("No other party has signed for this ledger: its owner could have rewritten all of it.");
    else if (!report.cosigned) report.note("No cosigned checkpoint of this ledger is in the page.");
  }
  return report;
};
