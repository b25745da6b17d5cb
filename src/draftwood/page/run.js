// A run on the page: tokens colored by where they came from, figures, a gauge of tokens a step.
// Everything that came from a model or a person goes in as text, never as HTML.

const NAMES = {
  model: "the model", own: "own text", shared: "shared history", prediction: "prediction",
  small: "small model", other: "other drafter",
};
const STEPS = 160; // bars of the gauge, at most
const TALLEST = 12; // tokens of a step that fill the gauge's height, at least

/** Which of the six sources a token belongs to. */
export function sourceOf(token) {
  if (!token.accepted) return "model";
  const { drafter, kind } = token.accepted;
  if (drafter === "small model") return "small";
  return { "own text": "own", "shared history": "shared", prediction: "prediction" }[kind] || "other";
}

function made(name, className = "", text = "") {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

const percent = (share) => `${Math.round(share * 100)} %`;
const quoted = (text) => (text === "" ? "(no text of its own)" : `“${text.replaceAll("\n", "⏎")}”`);

/** One run. add() takes tokens as they come, finish() what is known at the end. */
export class RunView {
  constructor({ title, namespace = "", plain = false }) {
    this.namespace = namespace;
    this.plain = plain;
    this.tokens = [];
    this.spans = [];
    this.steps = [];
    this.at = -1;
    this.element = made("article", "run live");
    this.element.setAttribute("aria-label", title);
    this.element.append(made("h3", "", title), this.#figures(), this.#gauge());
    this.text = made("div", "text");
    this.text.tabIndex = 0;
    this.text.setAttribute("role", "group");
    this.text.setAttribute("aria-label", "Generated text; arrow keys go from token to token");
    this.legend = made("ul", "legend");
    this.detail = made("p", "detail", "Point at a token, or use the arrow keys, to see where it came from.");
    this.detail.setAttribute("role", "status");
    this.element.append(this.text, this.legend, this.detail);
    this.text.addEventListener("pointerover", (event) => this.#point(event.target));
    this.text.addEventListener("click", (event) => this.#point(event.target));
    this.text.addEventListener("keydown", (event) => this.#key(event));
    this.began = performance.now();
  }

  #figures() {
    const list = made("dl", "figures");
    this.values = {};
    for (const [key, says, main] of [
      ["rate", "tokens a step", true], ["speed", "tokens a second"], ["saved", "seconds saved"],
      ["accepted", "drafts accepted"], ["count", "tokens in steps"],
    ]) {
      if (this.plain && (key === "saved" || key === "accepted")) continue;
      const pair = made("div", main ? "main" : "");
      this.values[key] = made("dd", "", "–");
      pair.append(made("dt", "", says), this.values[key]);
      list.append(pair);
    }
    return list;
  }

  #gauge() {
    this.gauge = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.gauge.setAttribute("class", "gauge");
    this.gauge.setAttribute("preserveAspectRatio", "none");
    this.gauge.setAttribute("role", "img");
    return this.gauge;
  }

  /** Take the tokens of the next step or steps. */
  add(tokens) {
    for (const token of tokens) {
      const begins = !this.steps.length || this.steps.at(-1).step !== token.step;
      if (begins) this.steps.push({ step: token.step, sources: [], first: this.tokens.length });
      const source = sourceOf(token);
      this.steps.at(-1).sources.push(source);
      const span = made("span", `token ${source}`, token.text);
      if (this.steps.at(-1).sources.length === 2) this.spans[this.steps.at(-1).first].classList.add("begins");
      if (token.refused) span.classList.add("refused");
      if (token.accepted) span.style.setProperty("--sure", token.accepted.confidence);
      span.dataset.at = this.tokens.length;
      this.tokens.push(token);
      this.spans.push(span);
      this.text.append(span);
    }
    this.#show((performance.now() - this.began) / 1000);
  }

  /** The end: text is what the answer says (a stop string cuts it), metrics the server's figures. */
  finish({ text = null, metrics = null, seconds = null } = {}) {
    this.element.classList.remove("live");
    if (text !== null) this.#cut(text.length);
    this.#show(seconds ?? (performance.now() - this.began) / 1000, metrics);
  }

  /** Hide what stands beyond the text's end. */
  #cut(length) {
    let left = length;
    this.spans.forEach((span, at) => {
      const own = this.tokens[at].text;
      span.textContent = own.slice(0, Math.max(0, left));
      span.classList.toggle("cut", left <= 0 && own !== "");
      left -= own.length;
    });
  }

  #show(seconds, metrics = null) {
    const steps = this.steps.length;
    if (!steps) return;
    const count = this.tokens.length;
    this.values.rate.textContent = (count / steps).toFixed(2);
    this.values.count.textContent = `${count} in ${steps}`;
    this.values.speed.textContent = seconds > 0 ? Math.round(count / seconds) : "–";
    if (this.plain) {
      // nothing was drafted: there is nothing to save
    } else if (metrics === null) {
      this.values.saved.textContent = `≈ ${Math.max(0, seconds * (count / steps - 1)).toFixed(1)}`;
    } else {
      const drafts = metrics.speculative_decoding;
      const saved = metrics.seconds_saved;
      this.values.saved.textContent = saved == null ? "–" : saved.toFixed(Math.abs(saved) < 1 ? 2 : 1).replace("-", "−");
      this.values.accepted.textContent = drafts.num_draft_tokens
        ? percent(drafts.num_accepted_draft_tokens / drafts.num_draft_tokens) : "–";
    }
    this.#drawGauge();
    this.#drawLegend();
  }

  #drawGauge() {
    const shown = this.steps.slice(-STEPS);
    const tallest = Math.max(TALLEST, ...shown.map((step) => step.sources.length));
    const wide = Math.max(40, shown.length);
    this.gauge.setAttribute("viewBox", `0 0 ${wide} ${tallest}`);
    const rate = this.values.rate.textContent;
    this.gauge.setAttribute("aria-label", `Tokens of each step; ${rate} a step on average`);
    const bars = [];
    shown.forEach((step, at) => step.sources.forEach((source, high) => {
      const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const place = { x: at + 0.1, y: tallest - high - 1, width: 0.8, height: 0.92 };
      for (const [name, value] of Object.entries(place)) bar.setAttribute(name, value);
      bar.setAttribute("class", source);
      bars.push(bar);
    }));
    this.gauge.replaceChildren(...bars);
  }

  #drawLegend() {
    const counts = {};
    for (const step of this.steps) for (const source of step.sources) counts[source] = (counts[source] || 0) + 1;
    this.legend.replaceChildren(...Object.keys(NAMES).filter((source) => counts[source]).map((source) => {
      const item = made("li");
      item.append(made("span", `token ${source}`, String(counts[source])), NAMES[source]);
      return item;
    }));
  }

  #point(target) {
    if (target.dataset && target.dataset.at !== undefined) this.#choose(Number(target.dataset.at));
  }

  #key(event) {
    const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const to = { Home: 0, End: this.tokens.length - 1 }[event.key];
    if ((move === undefined && to === undefined) || !this.tokens.length) return;
    event.preventDefault();
    this.#choose(Math.min(this.tokens.length - 1, Math.max(0, to ?? this.at + move)));
  }

  #choose(at) {
    if (this.spans[this.at]) this.spans[this.at].classList.remove("at");
    this.at = at;
    this.spans[at].classList.add("at");
    const { text, step, accepted, refused } = this.tokens[at];
    const where = this.namespace ? `namespace ${this.namespace}` : "the shared namespace";
    const parts = [made("b", "", quoted(text)), ` · step ${step + 1} · `];
    if (accepted) {
      parts.push(`drafted by ${accepted.drafter} from ${accepted.kind}, ${percent(accepted.confidence)} sure, accepted · ${where}`);
    } else {
      parts.push("the model's own token");
      if (refused) parts.push("; the draft said ", made("b", "", quoted(refused.text)),
        ` (${refused.drafter}: ${refused.kind}, ${percent(refused.confidence)} sure), refused`);
    }
    this.detail.replaceChildren(...parts);
  }

  /** Show the steps again, one after the other. */
  async replay() {
    const { tokens } = this;
    this.tokens = []; this.spans = []; this.steps = []; this.at = -1;
    this.text.replaceChildren();
    this.element.classList.add("live");
    for (let at = 0; at < tokens.length;) {
      const step = tokens[at].step;
      const own = [];
      while (at < tokens.length && tokens[at].step === step) own.push(tokens[at++]);
      const saved = Object.fromEntries(Object.entries(this.values).map(([key, each]) => [key, each.textContent]));
      this.add(own);
      for (const key of ["speed", "saved"]) if (this.values[key]) this.values[key].textContent = saved[key];
      await new Promise((done) => setTimeout(done, 45));
    }
    this.element.classList.remove("live");
  }
}

/** Dark where the reader's system is, until a choice is made. */
export function useTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => { document.documentElement.dataset.theme = dark.matches ? "dark" : "light"; };
  dark.addEventListener("change", apply);
  apply();
}

/** A finished run, as a single file holds it. */
export function showFinished(run, into) {
  const view = new RunView({ title: run.title, namespace: run.namespace });
  view.add(run.tokens);
  view.finish({ text: run.text, metrics: run.metrics, seconds: run.seconds });
  const again = made("button", "", "Replay");
  again.type = "button";
  again.addEventListener("click", async () => {
    again.disabled = true;
    await view.replay();
    view.finish({ text: run.text, metrics: run.metrics, seconds: run.seconds });
    again.disabled = false;
  });
  view.element.append(again);
  into.append(view.element);
  return view;
}
