// The tab of questions: filters, pages of fifty, and the samples of each that is opened.
let tables = null, page = 0;
const PAGE = 50;
const FILTERS = ["text", "samples", "right", "wrong", "order"];

function openQuestions() {
  if (tables) return;
  tables = JSON.parse(byId("question-data").textContent);
  tables.forEach((table, i) => byId("run").add(new Option(table.run, i)));
  byId("run-label").hidden = tables.length === 1;
  byId("run").onchange = () => { fillFilters(); page = 0; list(); };
  for (const id of FILTERS) byId(id).oninput = () => { page = 0; list(); };
  byId("before").onclick = () => { page -= 1; list(); };
  byId("after").onclick = () => { page += 1; list(); };
  document.querySelector(".controls").onsubmit = event => event.preventDefault();
  fillFilters();
  list();
}

const tableShown = () => tables[byId("run").value || 0];

function fillFilters() {
  for (const id of ["right", "wrong"]) {
    byId(id).replaceChildren(new Option("any", ""));
    tableShown().methods.forEach(({title}, i) => byId(id).add(new Option(title, i)));
  }
}

function passes(question) {
  const [text, samples, right, wrong] = FILTERS.map(id => byId(id).value);
  const found = `${question.id}\n${question.text}\n${question.answer}`.toLowerCase().includes(text.toLowerCase());
  const share = {"": true, none: question.share === 0, all: question.share === 1, mixed: question.share > 0 && question.share < 1}[samples];
  return found && share && (right === "" || question.right[right] >= 0.5) && (wrong === "" || question.right[wrong] < 0.5);
}

function list() {
  const table = tableShown(), order = byId("order").value, questions = table.questions.filter(passes);
  if (order !== "file") questions.sort((x, y) => order === "hard" ? x.share - y.share : y.share - x.share);
  const pages = Math.max(1, Math.ceil(questions.length / PAGE));
  page = Math.min(Math.max(page, 0), pages - 1);
  byId("count").textContent = `${questions.length} of ${table.questions.length} questions, page ${page + 1} of ${pages}`;
  byId("before").disabled = page === 0;
  byId("after").disabled = page === pages - 1;
  const listed = table.questions.length < table.all ? `lists the first ${table.questions.length} of ${table.all} questions, leaves out ${table.all - table.questions.length}, and ` : "";
  byId("left-out").textContent = table.shown < table.all
    ? `To keep the page small it ${listed}holds the samples of ${table.shown} of ${table.all} questions; all are in the prediction file.` : "";
  byId("list").replaceChildren(...questions.slice(page * PAGE, (page + 1) * PAGE).map(question => line(table, question)));
}

const mark = (title, right) => {
  const made = element("span", `${right ? "✓" : "✗"} `, right ? "right" : "wrong");
  made.append(element("span", title));
  made.setAttribute("aria-label", `${title} ${right ? "right" : "wrong"}`);
  return made;
};

// a question; its samples are made when it is first opened
function line(table, question) {
  const made = element("details", undefined, "question"), summary = element("summary", question.text || question.id);
  const marks = element("div", undefined, "marks");
  marks.append(element("span", `answer ${question.answer}`), element("span", `${Math.round(100 * question.share)} % of samples right`));
  table.methods.forEach(({title, first}, i) => { if (first) marks.append(mark(title, question.right[i] >= 0.5)); });
  summary.append(marks);
  made.append(summary);
  made.ontoggle = () => { if (made.open && made.childElementCount === 1) made.append(details(table, question)); };
  return made;
}

function details(table, question) {
  const made = element("div", undefined, "details"), marks = element("div", undefined, "marks");
  made.tabIndex = 0;
  made.setAttribute("role", "region");
  made.setAttribute("aria-label", `samples of ${question.id}`);
  table.methods.forEach(({title}, i) => marks.append(mark(title, question.right[i] >= 0.5)));
  made.append(element("p", `${question.id}. Greedy answer: ${question.greedy ?? "none"}.`), marks);
  if (!question.samples) { made.append(element("p", "Its samples are not in this page; see the prediction file.")); return made; }
  const samples = element("table"), head = element("tr"), top = element("thead");
  for (const title of ["sample", "answer", "score", "step scores", "chosen by"]) head.append(element("th", title));
  top.append(head);
  samples.append(top);
  const {answer, right, score, steps} = question.samples;
  [...answer.keys()].sort((n, m) => (score[m] ?? 0) - (score[n] ?? 0)).forEach(n => {
    const row = element("tr"), choosers = table.selections.filter((_, i) => question.chosen[i] === n);
    const given = element("td", undefined, right[n] ? "right" : "wrong");
    given.append(`${right[n] ? "✓" : "✗"} ${answer[n] ?? "none"}`);
    row.append(element("td", n), given, element("td", score[n] ?? ""), element("td", steps[n].join("  ")), element("td", choosers.join(", ")));
    samples.append(row);
  });
  made.append(samples);
  return made;
}
