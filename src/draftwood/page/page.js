// The live page: asks this server, shows what comes, and what it learned.
import { RunView, useTheme } from "./run.js";

const at = (id) => document.getElementById(id);
const state = { turns: [], running: null, model: "" };

function headers() {
  const key = at("key").value.trim();
  return { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
}

function say(text, wrong = false) {
  at("said").textContent = text;
  at("said").classList.toggle("wrong", wrong);
}

async function refusal(answer) {
  if (answer.status === 401) {
    at("key-row").hidden = false;
    at("key").focus();
    return "This server wants an API key.";
  }
  try {
    return (await answer.json()).error.message;
  } catch {
    return `The server answered ${answer.status}.`;
  }
}

/** The events of a streamed answer. */
async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const parts = held.split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      if (!part.startsWith("data: ")) continue;
      const data = part.slice(6);
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

/** Ask once, with drafts or without, and fill a view. */
async function run(asked, view, signal) {
  const chat = "messages" in asked;
  const answer = await fetch(chat ? "v1/chat/completions" : "v1/completions", {
    method: "POST", headers: headers(), body: JSON.stringify(asked), signal,
  });
  if (!answer.ok) throw new Error(await refusal(answer));
  let text = "";
  let metrics = null;
  try {
    for await (const event of events(answer)) {
      if (event.error) throw new Error(event.error.message);
      if (event.metrics) metrics = event.metrics;
      for (const choice of event.choices) {
        text += (chat ? choice.delta.content : choice.text) || "";
        if (choice.draftwood && choice.draftwood.tokens) view.add(choice.draftwood.tokens);
      }
    }
  } finally {
    view.finish(metrics ? { text, metrics } : {});
  }
  return { text, steps: view.steps.length, metrics };
}

function request(drafts) {
  const text = at("text").value;
  const temperature = Number(at("temperature").value);
  const asked = {
    max_tokens: Number(at("tokens").value), temperature, stream: true,
    stream_options: { include_usage: true }, draftwood: { origins: true, drafts },
  };
  if (temperature > 0) asked.seed = Number(at("seed").value);
  if (at("namespace").value) asked.user = at("namespace").value;
  if (at("prediction").value && drafts) asked.prediction = { type: "content", content: at("prediction").value };
  if (chatting()) asked.messages = [...state.turns, { role: "user", content: text }];
  else asked.prompt = text;
  return asked;
}

const chatting = () => document.querySelector("input[name=kind]:checked").value === "chat";

async function generate() {
  const text = at("text").value;
  const beside = at("beside").checked;
  const exchange = document.createElement("div");
  exchange.className = "exchange";
  const asked = document.createElement("p");
  asked.className = "asked";
  asked.textContent = text;
  const runs = document.createElement("div");
  runs.className = "runs";
  const verdict = document.createElement("p");
  verdict.className = "verdict";
  exchange.append(asked, runs, verdict);
  at("log").prepend(exchange);
  const namespace = at("namespace").value;
  const views = [new RunView({ title: beside ? "With drafts" : "Answer", namespace })];
  if (beside) views.push(new RunView({ title: "Without drafts", namespace, plain: true }));
  runs.append(...views.map((view) => view.element));
  state.running = new AbortController();
  at("go").disabled = true;
  at("stop").disabled = false;
  say("");
  try {
    const done = await Promise.all(views.map((view, number) => run(request(number === 0), view, state.running.signal)));
    if (beside) tell(verdict, ...done);
    if (chatting()) {
      state.turns.push({ role: "user", content: text }, { role: "assistant", content: done[0].text });
      at("text").value = "";
      at("anew").hidden = false;
    }
  } catch (error) {
    if (error.name === "AbortError") say("Stopped.");
    else say(error.message, true);
  } finally {
    state.running = null;
    at("go").disabled = false;
    at("stop").disabled = true;
    await history();
  }
}

function tell(verdict, drafted, plain) {
  const same = document.createElement("b");
  same.textContent = drafted.text === plain.text ? "The same text" : "The texts differ";
  verdict.append(same, `, in ${drafted.steps} steps with drafts and ${plain.steps} without.`);
}

const number = new Intl.NumberFormat("en");

function ago(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return seconds < 86400 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

async function history() {
  const answer = await fetch("draftwood/history", { headers: headers() });
  if (!answer.ok) {
    say(await refusal(answer));
    return;
  }
  const figures = await answer.json();
  at("history-whole").textContent = figures.capacity === undefined ? figures.drafter
    : `${number.format(figures.tokens_written)} tokens learned, room for ${number.format(figures.capacity)}, ${(figures.bytes / 2 ** 20).toFixed(0)} MiB`;
  at("namespaces").replaceChildren(...figures.namespaces.map((each) => {
    const row = document.createElement("tr");
    for (const text of [each.namespace || "shared", number.format(each.texts), number.format(each.tokens),
      number.format(each.accepted_tokens), ago(each.age_seconds), `${ago(each.idle_seconds)} ago`]) {
      const cell = document.createElement("td");
      cell.textContent = text;
      row.append(cell);
    }
    return row;
  }));
}

async function begin() {
  useTheme();
  at("theme").addEventListener("click", () => {
    const { dataset } = document.documentElement;
    dataset.theme = dataset.theme === "dark" ? "light" : "dark";
  });
  at("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!state.running) generate();
  });
  at("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("ask").requestSubmit();
  });
  at("stop").addEventListener("click", () => state.running && state.running.abort());
  at("anew").addEventListener("click", () => {
    state.turns = [];
    at("anew").hidden = true;
  });
  at("key").addEventListener("change", connect);
  await connect();
}

async function connect() {
  const answer = await fetch("v1/models", { headers: headers() });
  if (!answer.ok) {
    say(await refusal(answer));
    return;
  }
  state.model = (await answer.json()).data[0].id;
  at("model").textContent = state.model;
  say("");
  await history();
}

begin();
