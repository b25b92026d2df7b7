// Checks the ledgers that this page holds, and shows their entries. It loads nothing, keeps nothing and sends nothing;
// whatever stands in a ledger is put on the page as text. All hashes and signatures are the browser's own (WebCrypto).

const PER_PAGE = 50; // entries shown at once
const root = document.documentElement;
const byId = (id) => document.getElementById(id);
root.dataset.verified = "running";

const make = (tag, text = "", attributes = {}) => {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
};
// ---- results
const WORDS = { pass: "Good", fail: "WRONG", open: "Not checked", note: "Note" };
const show = (report, place) => {
  place.replaceChildren();
  const verdict = { pass: "everything fits", fail: "PROBLEM FOUND", open: "not everything could be checked" }[
    report.state
  ];
  place.append(make("p", `${report.party.owner}: ${verdict}`, { class: `verdict ${report.state}` }));
  const list = make("ul", "", { class: "checks" });
  for (const item of report.items) {
    const line = make("li");
    line.append(make("b", WORDS[item.state], { class: item.state }), ` ${item.text}`);
    list.append(line);
  }
  place.append(list);
};
const conclude = (reports, seconds) => {
  const failed = reports.flatMap((report) =>
    report.items.filter((item) => item.state === "fail").map((item) => [report, item]),
  );
  const open = reports.flatMap((report) => report.items.filter((item) => item.state === "open"));
  const status = byId("verified");
  const took = `${count(signaturesChecked, "signature")} and all hashes, in ${seconds.toFixed(1)} s`;
  root.dataset.failed = failed.length;
  root.dataset.unchecked = open.length;
  if (failed.length) {
    status.textContent = `Checked in this browser: PROBLEM. ${failed[0][0].party.owner}: ${failed[0][1].text}`;
  } else if (open.length) {
    status.textContent = `Checked in this browser as far as it could be: nothing is wrong, but ${count(open.length, "thing")} could not be checked.`;
  } else {
    status.textContent = `Checked in this browser: everything fits (${took}).`;
  }
  status.className = `status ${failed.length ? "fail" : open.length ? "open" : "pass"}`;
  root.dataset.verified = failed.length || open.length ? "no" : "yes";
};

// ---- entries: filters, pages, proofs
const browse = (ledgers) => {
  const rows = ledgers.flatMap((ledger) =>
    ledger.entries.map((entry, number) => ({ ledger, number, entry: entry || {} })),
  );
  const kindOf = (entry) => text(entry.message_type) || text(entry.kind);
  const columns = {
    party: (row) => row.ledger.party.owner,
    type: (row) => kindOf(row.entry),
    round: (row) => (row.entry.round === -1 ? "none" : text(row.entry.round)),
    direction: (row) => text(row.entry.direction),
    outcome: (row) => text(row.entry.outcome),
    day: (row) => text(row.entry.time).slice(0, 10),
  };
  const filters = Object.entries(columns).map(([name, of]) => {
    const select = byId(`filter-${name}`);
    const values = [...new Set(rows.map(of))].sort((a, b) => a - b || (a < b ? -1 : a > b ? 1 : 0));
    for (const value of values) select.append(make("option", value || "(empty)", { value: `=${value}` }));
    return [select, of];
  });
  const search = byId("filter-text"),
    body = byId("entry-rows"),
    said = byId("entry-count");
  const earlier = byId("entry-earlier"),
    later = byId("entry-later");
  let shown = rows,
    at = 0;
  const low = (row) => (row.low ??= words.decode(row.ledger.lines[row.number]).toLowerCase());

  const proofOf = async (row, place) => {
    const { party, tree, lines } = row.ledger;
    const found = party.checkpoints.find(
      (checkpoint) => checkpoint.size > row.number && checkpoint.size <= lines.length,
    );
    if (!found) {
      place.append(make("p", "No checkpoint covers this entry yet, so there is no proof."));
      return;
    }
    try {
      const note = parseNote(found.note),
        path = await tree.path(row.number, note.size);
      const leaf = await sha256(join(ZERO, lines[row.number]));
      const good = same(await rootFromPath(leaf, row.number, note.size, path), note.root);
      const line = make("p");
      line.append(
        make("b", good ? WORDS.pass : WORDS.fail, { class: good ? "pass" : "fail" }),
        good
          ? ` This entry is number ${row.number} under the signed root of ${note.size} entries. Save the text below as a .tlog-proof file to check it elsewhere.`
          : ` This entry is not number ${row.number} under the signed root of ${note.size} entries.`,
      );
      place.append(line);
      const file = `${PROOF}\nindex ${row.number}\n${path.map((step) => `${toBase64(step)}\n`).join("")}\n${found.note}`;
      place.append(
        make("pre", file, { class: "proof", tabindex: "0", role: "region", "aria-label": "Inclusion proof" }),
      );
    } catch (error) {
      place.append(make("p", `There is no proof: ${error.message}.`));
    }
  };
  const open = (row, button, line) => {
    const detail = make("tr", "", { class: "detail" }),
      cell = make("td", "", { colspan: "10" });
    let shownLine = words.decode(row.ledger.lines[row.number]);
    try {
      if (Object.keys(row.entry).length) shownLine = JSON.stringify(row.entry, null, 1);
    } catch {
      /* too deep: as it is */
    }
    cell.append(
      make("p", `Entry ${row.number} of ${row.ledger.party.owner}; SHA-256 ${hex(row.ledger.hashes[row.number])}`, {
        class: "hash",
      }),
    );
    cell.append(make("pre", shownLine, { tabindex: "0", role: "region", "aria-label": "The whole entry" }));
    detail.append(cell);
    line.after(detail);
    button.setAttribute("aria-expanded", "true");
    proofOf(row, cell);
  };
  const draw = () => {
    body.replaceChildren();
    for (const row of shown.slice(at, at + PER_PAGE)) {
      const { entry, ledger, number } = row,
        line = make("tr"),
        head = make("th", "", { scope: "row" });
      const button = make("button", `${ledger.party.owner} ${number}`, { type: "button", "aria-expanded": "false" });
      button.addEventListener("click", () => {
        if (button.getAttribute("aria-expanded") === "true") {
          line.nextElementSibling.remove();
          button.setAttribute("aria-expanded", "false");
        } else open(row, button, line);
      });
      head.append(button);
      line.append(head);
      const bad = ["refused", "retried", "failed"].includes(entry.outcome);
      for (const value of [
        text(entry.time).slice(0, 19).replace("T", " "),
        columns.round(row).replace("none", "–"),
        kindOf(entry),
        text(entry.direction).replace("none", "–"),
        text(entry.peer) || "–",
        typeof entry.wire_bytes === "number" ? entry.wire_bytes.toLocaleString("en-GB") : "",
      ]) {
        line.append(make("td", value));
      }
      line.append(
        make("td", text(entry.outcome), bad ? { class: "bad" } : {}),
        make("td", text(entry.wire_sha256).slice(0, 12) || "–", { class: "hash" }),
      );
      body.append(line);
    }
    const last = Math.min(at + PER_PAGE, shown.length);
    said.textContent = shown.length
      ? `${at + 1} to ${last} of ${count(shown.length, "entry", "entries")}`
      : "No entry fits.";
    earlier.disabled = at === 0;
    later.disabled = last >= shown.length;
  };
  const filter = () => {
    const asked = search.value.trim().toLowerCase();
    const wanted = filters.filter(([select]) => select.value).map(([select, of]) => [select.value.slice(1), of]);
    shown = rows.filter(
      (row) => wanted.every(([value, of]) => of(row) === value) && (!asked || low(row).includes(asked)),
    );
    at = 0;
    draw();
  };
  filters.forEach(([select]) => select.addEventListener("change", filter));
  search.addEventListener("input", filter);
  byId("filter-reset").addEventListener("click", () => {
    filters.forEach(([select]) => {
      select.value = "";
    });
    search.value = "";
    filter();
  });
  earlier.addEventListener("click", () => {
    at = Math.max(0, at - PER_PAGE);
    draw();
  });
  later.addEventListener("click", () => {
    at += PER_PAGE;
    draw();
  });
  byId("entry-missing").hidden = true;
  byId("entry-browser").hidden = false;
  draw();
};

const start = async () => {
  const began = performance.now();
  if (!globalThis.crypto?.subtle || !globalThis.DecompressionStream)
    throw new Error("this browser lacks WebCrypto or DecompressionStream");
  byId("verified").textContent = "Checking in this browser…";
  const page = JSON.parse(words.decode(await unpack("audit-facts")));
  page.batches = new Map();
  // No site can be called "coordinator": a page of one site's ledger knows the coordinator by its key alone.
  const coordinators = page.parties.filter((party) => party.role === "coordinator").map((party) => party.owner);
  page.coordinators = new Set(coordinators.length ? coordinators : ["coordinator"]);
  const ledgers = [];
  for (const [i, party] of page.parties.entries()) {
    const lines = linesOf(await unpack(`ledger-${i}`)),
      hashes = await hashAll(lines, (line) => line);
    const tree = await Tree.over(await hashAll(lines, (line) => join(ZERO, line)));
    ledgers.push({ party, lines, hashes, tree, entries: lines.map(parseEntry) });
  }
  browse(ledgers);
  const ring = await ringOf(page.keys),
    ed25519 = await hasEd25519(),
    reports = [];
  signaturesChecked = 0;
  for (const [i, ledger] of ledgers.entries()) {
    reports.push(await checkParty(ledger, page, ring, ed25519));
    show(reports[i], byId(`check-${i}`));
  }
  for (const key of page.keys) {
    if (key.words && (await fingerprint(fromHex(key.public_key))) !== key.words)
      reports[0].fail(`The words of the key ${key.name} are not those of the key.`);
  }
  show(reports[0], byId("check-0"));
  conclude(reports, (performance.now() - began) / 1000);
};
// A page is printed whole: what is folded away on screen is opened for it.
addEventListener("beforeprint", () =>
  document.querySelectorAll("details").forEach((each) => {
    each.open = true;
  }),
);
start().catch((error) => {
  byId("verified").textContent = `Nothing could be checked in this browser: ${error.message}.`;
  byId("verified").className = "status open";
  root.dataset.verified = "no";
  root.dataset.unchecked = 1;
});
