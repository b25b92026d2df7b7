// Filters and sorts the images that are on the page. It reads nothing from elsewhere and sends nothing.

const byId = (id) => document.getElementById(id);
const list = byId("cases");
const cases = [...list.children];
const ORDERS = {
  review: (a, b) => cases.indexOf(a) - cases.indexOf(b),
  high: (a, b) => b.dataset.confidence - a.dataset.confidence || a.dataset.record - b.dataset.record,
  low: (a, b) => a.dataset.confidence - b.dataset.confidence || a.dataset.record - b.dataset.record,
  record: (a, b) => a.dataset.record - b.dataset.record,
};
const threshold = byId("threshold");
const first = threshold.value;
const chosen = () => document.querySelector("input[name=show]:checked");
const loud = (each) => each.dataset.outcome === "wrong" && each.dataset.confidence * 100 >= Number(threshold.value);
const KINDS = {
  all: () => true,
  wrong: (each) => each.dataset.outcome === "wrong",
  confident: loud,
  abstained: (each) => each.dataset.outcome === "abstained",
  misses: (each) => "misses" in each.dataset,
  right: (each) => each.dataset.outcome === "right",
};

const filter = () => {
  const truth = byId("truth").value,
    called = byId("called").value,
    kind = chosen();
  // Counts beside the kinds are of the chosen classes, so that no choice leads to an empty list by surprise.
  const fitting = cases.filter(
    (each) => (!truth || each.dataset.truth === truth) && (!called || each.dataset.called === called),
  );
  for (const input of document.querySelectorAll("input[name=show]")) {
    byId(`count-${input.value}`).textContent = fitting.filter(KINDS[input.value]).length;
  }
  const wanted = new Set(fitting.filter(KINDS[kind.value]));
  for (const each of cases) {
    each.hidden = !wanted.has(each);
    each.querySelector(".tag").hidden = !loud(each);
  }
  const order = byId("order");
  list.append(...[...cases].sort(ORDERS[order.value]));
  const said = wanted.size ? `${wanted.size} of ${cases.length} images` : `None of the ${cases.length} images fits`;
  byId("shown").textContent = `${said}, ${order.selectedOptions[0].textContent}.`;
};

if (cases.length) {
  const tools = byId("tools"),
    everyMap = byId("all-maps"),
    toggles = [...document.querySelectorAll(".toggle")];
  tools.addEventListener("submit", (event) => event.preventDefault());
  tools.addEventListener("change", (event) => {
    if (event.target !== everyMap) filter();
  });
  threshold.addEventListener("input", filter);
  everyMap?.addEventListener("change", () => {
    for (const each of toggles) each.checked = everyMap.checked;
  });
  byId("reset").addEventListener("click", () => {
    document.querySelector("input[name=show][value=all]").checked = true;
    for (const name of ["truth", "called"]) byId(name).value = "";
    byId("order").value = "review";
    threshold.value = first;
    filter();
  });
  // A browser that comes back to the page keeps what was chosen: the list must agree with it.
  filter();
  tools.hidden = false;
}
// A page is printed whole: what is folded away on screen is opened for it.
addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("details")) each.open = true;
});
