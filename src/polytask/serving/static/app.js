// The page of a Polytask server. Whatever an adapter says of itself is set as text, never as HTML.
"use strict";

const at = (id) => document.getElementById(id);
const MOST_BARS = 8, MOST_TASKS = 128, MOST_LABELS = 6, MOST_POINTS = 60, LIVE_MS = 2000, MODELS_MS = 10000;
const points = Array(MOST_POINTS).fill(0);
let models = [], chosen = null;

function made(tag, content, ...classes) {
  const node = document.createElement(tag);
  if (content !== undefined) node.textContent = content;
  node.classList.add(...classes);
  return node;
}

async function asked(path, body) {
  const headers = {};
  const key = sessionStorage.getItem("key");
  if (key) headers["Authorization"] = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(path, {
    method: body === undefined ? "GET" : "POST", headers, body: body === undefined ? undefined : JSON.stringify(body),
  });
  const content = await response.json().catch(() => ({}));
  if (response.status === 401) {
    askForKey();
    throw new Error(key ? "This key is unknown" : "Enter a key");
  }
  if (!response.ok) throw new Error(content.error ? content.error.message : `HTTP ${response.status}`);
  return { content, headers: response.headers };
}

function askForKey() {
  if (!at("key-field").hidden) return;
  at("key-field").hidden = false;
  at("metrics").hidden = true;  // a link cannot send a key
  if (!at("text").value) at("key").focus();
}

const inBytes = (n) => n >= 1e9 ? `${(n / 1e9).toFixed(1)} GB` : n >= 1e6 ? `${(n / 1e6).toFixed(1)} MB` : `${Math.round(n / 1e3)} kB`;
const rounded = (n) => n.toFixed(3);
const percent = (p) => p > 0 && p < 0.0005 ? "<0.1%" : `${(100 * p).toFixed(p > 0.0995 || p === 0 ? 0 : 1)}%`;
const latest = () => models.filter((model) => model.is_latest);
const counted = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;
const isPaired = (model) => model.takes === "pair" || model.takes === "question+context";

function inWords(method) {
  const { name, ...settings } = method;
  const shown = Object.entries(settings).filter(([key, value]) => ["size", "rank", "n", "layers"].includes(key) && value !== null);
  return [name, ...shown.map(([key, value]) => `${key} ${value}`)].join(", ");
}

function showTasks() {
  if (chosen === null) chosen = new Set(latest().filter((model) => !isPaired(model)).slice(0, 8).map((model) => model.task));
  const focused = at("tasks").contains(document.activeElement) ? document.activeElement.value : undefined;
  at("tasks").replaceChildren(...latest().map((model) => {
    const box = made("input");
    box.type = "checkbox";
    box.checked = chosen.has(model.task);
    box.value = model.task;
    box.addEventListener("change", () => {
      box.checked ? chosen.add(model.task) : chosen.delete(model.task);
      showPair();
    });
    const label = made("label", undefined, "chip");
    const name = made("span", model.task);
    name.title = `${model.id}, ${model.kind}`;
    label.append(box, name);
    return label;
  }));
  const again = [...at("tasks").querySelectorAll("input")].find((box) => box.value === focused);
  if (again) again.focus();
  showPair();
}

function showPair() {
  at("pair-field").hidden = !latest().some((model) => chosen.has(model.task) && isPaired(model));
}

// Labels may be of any length, and written from right to left: each is cut, and isolated from its neighbours.
function labelsOf(model) {
  const cell = made("td", undefined, "labels");
  model.labels.slice(0, MOST_LABELS).forEach((label, n) => {
    const name = made("bdi", label);
    name.title = label;
    cell.append(n ? ", " : "", name);
  });
  if (model.labels.length > MOST_LABELS) cell.append(`, … (${model.labels.length})`);
  return cell;
}

function showAdapters() {
  at("adapters").replaceChildren(...models.map((model) => {
    const row = made("tr");
    const names = [model.id, ...model.aliases.map((alias) => `@${alias}`)];
    row.append(
      made("td", names.join(" "), "name"), made("td", model.kind), labelsOf(model), made("td", inWords(model.method)),
      made("td", `${model.metric} ${model.score.toFixed(3)}`, "right"), made("td", inBytes(model.size_bytes), "right"),
      made("td", model.is_resident ? "in memory" : "on demand"),
    );
    return row;
  }));
}

async function refresh() {
  const { content } = await asked("/v1/models");
  const before = JSON.stringify(latest().map((model) => model.id));
  models = content.data;
  at("about").textContent = `${counted(latest().length, "task")} on one frozen ${content.backbone.split("/").pop()}`;
  if (JSON.stringify(latest().map((model) => model.id)) !== before) showTasks();
  showAdapters();
  at("refused").hidden = !content.refused.length;
  at("num-refused").textContent = `${counted(content.refused.length, "version")} not served`;
  at("reasons").replaceChildren(...content.refused.map((model) => made("li", `${model.id}: ${model.reason}`)));
}

async function live() {
  const { content } = await asked("/v1/stats");
  at("rows").textContent = content.rows_per_s.toFixed(1);
  at("tokens").textContent = Math.round(content.tokens_per_s).toLocaleString("en");
  at("memory").textContent = `${counted(content.adapters_resident, "adapter")}, ${inBytes(content.resident_bytes)}`;
  points.push(content.rows_per_s);
  points.shift();
  const most = Math.max(1, ...points);
  const path = points.map((value, n) => `${(n * 120) / (MOST_POINTS - 1)},${31 - (30 * value) / most}`);
  document.querySelector("#spark polyline").setAttribute("points", path.join(" "));
}

function bar(label, prob, holds) {
  const name = made("span", label), track = made("div", undefined, "track"), fill = made("div", undefined, "fill");
  name.title = label;
  name.dir = "auto";
  track.append(fill);
  if (holds) track.classList.add("holds");
  requestAnimationFrame(() => { fill.style.width = `${100 * prob}%`; });
  return [name, track, made("b", percent(prob))];
}

function answerOf(item) {
  if (item.none) return "none of these";
  if (item.abstained) return "no label";
  if (item.labels) return item.labels.join(", ") || "none";
  if (item.answer === undefined && item.score !== undefined) return rounded(item.score);
  return item.answer ?? item.label ?? "no answer";
}

const modelOf = (version) => models.find((model) => model.id === version);

function belowThreshold(version, [label, prob]) {
  const model = modelOf(version);
  const threshold = model && model.thresholds ? model.thresholds.values[model.labels.indexOf(label)] : undefined;
  if (threshold === null) return `the adapter never answers ${label}`;
  return `${label} is most likely, but ${percent(prob)} is below its threshold${threshold === undefined ? "" : ` of ${percent(threshold)}`}`;
}

function intervalLevel(version) {
  const model = modelOf(version);
  return model && model.calibration ? percent(model.calibration.level) : "prediction";
}

function card(item, version) {
  const node = made("article", undefined, "answer");
  const title = made("h3");
  title.append(made("span", item.task), made("span", version.slice(item.task.length), "version"));
  node.append(title);
  if (item.error) {
    node.append(made("p", item.error, "more"));
    return node;
  }
  const holding = new Set(item.labels || (item.label ? [item.label] : []));
  const said = made("p", answerOf(item), "said", ...(item.abstained ? ["abstained"] : []));
  said.title = said.textContent;
  said.dir = "auto";
  node.append(said);
  if (item.probs) {
    const ranked = Object.entries(item.probs).sort((one, other) => other[1] - one[1]);
    const bars = made("div", undefined, "bars");
    bars.append(...ranked.slice(0, MOST_BARS).flatMap(([label, prob]) => bar(label, prob, holding.has(label))));
    node.append(bars);
    if (ranked.length > MOST_BARS) node.append(made("p", `and ${ranked.length - MOST_BARS} more labels`, "more"));
    if (item.abstained) {
      const why = item.none ? "the text is unlike the training texts of all labels" : belowThreshold(version, ranked[0]);
      node.append(made("p", why, "more"));
    }
  } else if (item.interval !== undefined) {
    node.append(made("p", `${intervalLevel(version)} interval ${item.interval.map(rounded).join(" to ")}`, "more"));
  } else if (item.answer !== undefined) {
    node.append(made("p", `characters ${item.start} to ${item.end}, score ${rounded(item.score)}`, "more"));
  }
  return node;
}

function inParts(group) {
  return Array.from({ length: Math.ceil(group.length / MOST_TASKS) }, (_, n) => group.slice(n * MOST_TASKS, (n + 1) * MOST_TASKS));
}

async function classify(event) {
  if (event) event.preventDefault();
  const text = at("text").value, pair = at("pair").value;
  const wanted = latest().filter((model) => chosen.has(model.task));
  if (!text.trim() || !wanted.length) return say(text.trim() ? "Choose a task" : "Type a text", true);
  at("ask").disabled = true;
  say("…");
  const start = performance.now();
  try {
    const single = inParts(wanted.filter((model) => !isPaired(model))), paired = inParts(wanted.filter(isPaired));
    const groups = [...single.map((group) => [group, text]), ...paired.map((group) => [group, [text, pair]])];
    const parts = await Promise.all(groups.map(([group, input]) => asked(
      "/v1/classify", { models: group.map((model) => model.task), input: [input], on_error: "null" },
    )));
    const items = parts.flatMap(({ content }) => {
      const versions = content.model.split(",");
      return content.data.map((item, n) => [item, versions[n] || ""]);
    });
    at("answers").replaceChildren(...items.map(([item, version]) => card(item, version)));
    const engine = parts.map(({ headers }) => Number(headers.get("x-inference-time")));
    const ms = Math.round(performance.now() - start);
    say(`${counted(items.length, "answer")} in ${ms} ms (${Math.round(Math.max(...engine))} ms in the model)`);
  } catch (error) {
    say(error.message, true);
  } finally {
    at("ask").disabled = false;
  }
}

function say(words, isBad = false) {
  at("status").textContent = words;
  at("status").classList.toggle("bad", isBad);
}

function choose(tasks) {
  chosen = new Set(tasks);
  showTasks();
}

async function often(work, everyMs) {
  try {
    if (!document.hidden) await work();
  } catch (error) {
    say(error.message, true);
  }
  setTimeout(often, everyMs, work, everyMs);
}

at("form").addEventListener("submit", classify);
at("all").addEventListener("click", () => choose(latest().map((model) => model.task)));
at("none").addEventListener("click", () => choose([]));
at("key").addEventListener("change", () => {
  sessionStorage.setItem("key", at("key").value);
  say("");
  refresh().then(() => { at("key-field").hidden = true; }, (error) => say(error.message, true));
});
at("key").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();  // which would submit the form
  at("key").blur();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) classify(event);
});
often(refresh, MODELS_MS);
often(live, LIVE_MS);
