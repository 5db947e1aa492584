/* The page to play: its state, its controls, and the numbers that it shows. */
"use strict";

(() => {
  const { drawing } = axone;
  const model = new axone.GPT(AXONE_MODEL);
  const tokenizer = new axone.Tokenizer(AXONE_MODEL.merges);
  const { num_layers: L, num_heads: H, context_length: LONGEST } = model.config;
  const $ = (id) => document.getElementById(`play-${id}`);
  const SHOWN = 10; // tokens in the table of probabilities

  const state = { ids: [], run: null, token: 0, layer: 0, head: 0, steps: [], timer: null, undo: [] };

  // ---- Text of numbers and tokens ------------------------------------------------------------------------------------

  const shown = (id) => tokenizer.decode([id]).replace(/ /g, "·").replace(/\n/g, "↵");
  const quoted = (id) => `“${shown(id)}”`;
  const digits = (value, count = 4) => value.toFixed(count);

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "style") made.style.cssText = value; // an attribute would be refused by strict servers
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  // ---- From the text to everything below it --------------------------------------------------------------------------

  function read() {
    const all = tokenizer.encode($("text").value);
    state.ids = all.slice(-LONGEST);
    state.token = state.ids.length - 1;
    $("notice").textContent = all.length > LONGEST ? `${all.length} tokens: the model reads the last ${LONGEST}.` : "";
    if (!all.length) $("notice").textContent = "Type a text.";
    compute();
  }

  function compute() {
    $("text").closest(".play").classList.toggle("play-empty", !state.ids.length);
    if (!state.ids.length) return;
    state.run = model.forward(state.ids);
    model.backward(state.run);
    showTokens();
    showHeads();
    showMap();
    showNext();
    showGradients();
  }

  // ---- Tokens --------------------------------------------------------------------------------------------------------

  function showTokens() {
    const weights = state.run.attention[state.layer][state.head].row(state.token);
    const full = drawing.color("attention");
    $("tokens").replaceChildren(
      ...state.ids.map((id, t) => {
        const weight = t <= state.token ? digits(weights[t], 3) : "–";
        const chip = element(
          "button",
          {
            type: "button",
            role: "option",
            class: "play-token",
            "aria-selected": t === state.token,
            tabindex: t === state.token ? 0 : -1,
            title: `position ${t}, id ${id}`,
          },
          element("span", {}, shown(id)),
          element("small", {}, weight),
        );
        if (t <= state.token) {
          chip.style.backgroundColor = drawing.shade(weights[t], full);
          chip.classList.toggle("play-strong", weights[t] > 0.3);
        }
        chip.addEventListener("click", () => choose(t));
        return chip;
      }),
    );
    $("query").textContent = quoted(state.ids[state.token]);
    $("head-name").textContent = `block ${state.layer + 1}, head ${state.head + 1}`;
  }

  function choose(token, focus = false) {
    state.token = Math.min(Math.max(token, 0), state.ids.length - 1);
    showTokens();
    showMap();
    showNext();
    if (focus) $("tokens").children[state.token].focus();
  }

  $("tokens").addEventListener("keydown", (event) => {
    const goal = { ArrowLeft: state.token - 1, ArrowRight: state.token + 1, Home: 0, End: Infinity }[event.key];
    if (goal === undefined) return;
    event.preventDefault();
    choose(goal, true);
  });

  // ---- Attention -----------------------------------------------------------------------------------------------------

  const map = new drawing.Grid($("map"), {
    onmove: (t, s) => {
      const weights = state.run.attention[state.layer][state.head].row(t);
      const [query, key] = [quoted(state.ids[t]), quoted(state.ids[s])];
      $("map-readout").textContent =
        `Block ${state.layer + 1}, head ${state.head + 1}: ${query} at ${t} attends to ${key} at ${s} with weight ` +
        `${digits(weights[s], 6)}.`;
    },
    onchoose: (t) => choose(t),
  });

  function showHeads() {
    const rows = [element("tr", {}, element("td"), ...range(H).map((h) => element("th", { scope: "col" }, `head ${h + 1}`)))];
    for (const l of range(L)) {
      const cells = range(H).map((h) => {
        const canvas = element("canvas", {});
        const chosen = l === state.layer && h === state.head;
        const name = `block ${l + 1}, head ${h + 1}`;
        const button = element("button", { type: "button", "aria-label": name, "aria-pressed": chosen, title: name }, canvas);
        button.addEventListener("click", () => {
          [state.layer, state.head] = [l, h];
          for (const other of $("heads").querySelectorAll("button")) other.setAttribute("aria-pressed", other === button);
          showTokens();
          showMap();
        });
        drawing.thumbnail(canvas, state.run.attention[l][h], 64);
        return element("td", {}, button);
      });
      rows.push(element("tr", {}, element("th", { scope: "row" }, `block ${l + 1}`), ...cells));
    }
    $("heads").replaceChildren(...rows);
  }

  /* Positions of the largest weights, the largest first. */
  const strongest = (weights, count) => [...weights.keys()].sort((a, b) => weights[b] - weights[a]).slice(0, count);

  function showMap() {
    const weights = state.run.attention[state.layer][state.head];
    const query = weights.row(state.token).subarray(0, state.token + 1);
    const rows = strongest(query, 6).map((s) => bar(`${shown(state.ids[s])} at ${s}`, [query[s]]));
    $("strongest").replaceChildren(...rows);
    map.cursor = { row: state.token, column: strongest(query, 1)[0] };
    const labels = state.ids.map(shown);
    const side = fitting($("map"), labels.length, 12, 28);
    map.draw({
      rows: labels,
      columns: labels,
      share: (t, s) => (s <= t ? weights.row(t)[s] : null),
      full: () => drawing.color("attention"),
      cell: [side, side],
    });
    $("map").setAttribute("aria-label", `Attention map of ${$("head-name").textContent}: move with the arrow keys`);
  }

  // ---- The next token ------------------------------------------------------------------------------------------------

  function settings() {
    const [temperature, k, p] = ["temperature", "topk", "topp"].map((id) => Number($(id).value));
    const all = k === Number($("topk").max);
    $("temperature-value").textContent = digits(temperature, 2) + (temperature === 0 ? ", greedy" : "");
    $("topk-value").textContent = all ? "all tokens" : k;
    $("topp-value").textContent = digits(p, 2);
    return { temperature, topK: all ? Infinity : k, topP: p };
  }

  const entropy = (probabilities) => probabilities.reduce((sum, p) => (p > 0 ? sum - p * Math.log(p) : sum), 0);

  function showNext() {
    const logits = state.run.logits.row(state.token);
    const [raw, final] = [axone.softmax(logits), axone.filtered(logits, settings())];
    const order = [...raw.keys()].sort((a, b) => raw[b] - raw[a]);
    const rest = order.slice(SHOWN);
    const sum = (probabilities) => rest.reduce((total, id) => total + probabilities[id], 0);
    const rows = order.slice(0, SHOWN).map((id) => bar(shown(id), [final[id], raw[id]]));
    rows.push(bar(`${rest.length} others`, [sum(final), sum(raw)]));
    const header = ["token", "", "drawn", "model"].map((name) => element("th", { scope: "col" }, name));
    $("next").replaceChildren(element("tr", {}, ...header), ...rows);
    const follows = state.ids[state.token + 1];
    const actual = follows === undefined ? "" : ` The text has ${quoted(follows)}, with probability ${digits(raw[follows])}.`;
    $("next-readout").textContent =
      `After ${quoted(state.ids[state.token])}: ${final.filter((p) => p > 0).length} of ${raw.length} tokens can be drawn; ` +
      `entropy ${digits(entropy(raw), 3)} nats, then ${digits(entropy(final), 3)}.${actual}`;
  }

  /* A row of a table: a label, the first share as a filled bar and the second as an outline, and both as numbers. */
  function bar(label, shares) {
    const kinds = ["play-filled", "play-outline"];
    const bars = shares.map((share, i) => element("div", { class: kinds[i], style: `width: ${(100 * share).toFixed(2)}%` }));
    const track = element("div", { class: "play-track" }, ...bars);
    const cells = [label, track, ...shares.map((share) => digits(share))].map((content) => element("td", {}, content));
    return element("tr", shares[0] > 0 ? {} : { class: "play-cut" }, ...cells);
  }

  for (const id of ["temperature", "topk", "topp"]) $(id).addEventListener("input", () => state.run && showNext());

  // ---- Generation ----------------------------------------------------------------------------------------------------

  function add() {
    const logits = state.run.logits.row(state.ids.length - 1);
    const random = axone.generator(Number($("seed").value) * 10007 + state.ids.length);
    $("text").value += tokenizer.decode([axone.draw(axone.filtered(logits, settings()), random())]);
    read();
  }

  function generate(count) {
    if (!state.ids.length) return;
    state.undo.push($("text").value);
    $("undo").disabled = false;
    const stop = () => {
      clearTimeout(state.timer);
      state.timer = null;
      $("many").textContent = "Add 20";
    };
    if (state.timer) return stop();
    const next = (left) => {
      add();
      if (left <= 1) return stop();
      $("many").textContent = "Stop";
      state.timer = setTimeout(() => next(left - 1), 120);
    };
    next(count);
  }

  $("one").addEventListener("click", () => generate(1));
  $("many").addEventListener("click", () => generate(20));
  $("undo").addEventListener("click", () => {
    $("text").value = state.undo.pop();
    $("undo").disabled = !state.undo.length;
    read();
  });

  // ---- Gradients -----------------------------------------------------------------------------------------------------

  const stream = new drawing.Grid($("stream"), { onmove: (row, t) => ($("stream-readout").textContent = atStream(row, t)) });
  const depth = (row) => (row === 1 ? "after the embedding" : `after block ${row - 1}`);

  function gradientAt(row, t) {
    const { columns, grad } = state.run.stream[row - 1];
    return Math.sqrt(axone.sumOfSquares(grad.subarray(t * columns, (t + 1) * columns)));
  }

  function atStream(row, t) {
    const { ids, losses } = state.run;
    if (row > 0) return `Vector of ${quoted(ids[t])} at ${t}, ${depth(row)}: gradient of norm ${digits(gradientAt(row, t), 6)}.`;
    const probability = digits(Math.exp(-losses[t]), 6);
    return `After ${quoted(ids[t])} at ${t}: ${quoted(ids[t + 1])} had probability ${probability}, a loss of ${digits(losses[t], 6)} nats.`;
  }

  function showGradients() {
    const { ids, losses, loss } = state.run;
    $("loss").textContent = losses.length
      ? `Loss of this text: ${digits(loss, 6)} nats per token, the mean of ${losses.length} predictions.`
      : "One token has no loss: add more.";
    const rows = ["loss", "embedding", ...range(L).map((l) => `block ${l + 1}`)];
    const norms = rows.map((_, row) => ids.map((_, t) => (row ? gradientAt(row, t) : (losses[t] ?? 0))));
    const largest = [Math.max(...losses, 1e-12), Math.max(...norms.slice(1).flat(), 1e-12)];
    const side = fitting($("stream"), ids.length, 14, 40);
    stream.draw({
      rows,
      columns: ids.map(shown),
      share: (row, t) => (row || t < losses.length ? norms[row][t] / largest[Math.min(row, 1)] : null),
      full: (row) => drawing.color(row ? "gradient" : "loss"),
      cell: [side, 24],
    });
    $("stream").setAttribute("aria-label", "Loss and gradients by depth and token: move with the arrow keys");
    showParts();
    const path = [...state.steps, loss].map((value) => digits(value));
    $("steps").textContent = state.steps.length ? `Loss ${path.slice(-6).join(" → ")}` : "";
    $("reset").disabled = !state.steps.length;
    $("step").disabled = !losses.length;
  }

  function showParts() {
    const open = new Set([...$("parts").querySelectorAll("details[open]")].map((part) => part.dataset.name));
    const parts = model.gradientNorms();
    const largest = Math.max(...parts.map((part) => part.norm), 1e-12);
    const line = (name, norm) => [
      element("span", { class: "play-name" }, name),
      element("span", { class: "play-track" }, element("span", { class: "play-norm", style: `width: ${(100 * norm) / largest}%` })),
      element("span", { class: "play-number" }, digits(norm, 6)),
    ];
    $("parts").replaceChildren(
      ...parts.map(({ name, norm, parameters }) => {
        const details = element("details", { "data-name": name }, element("summary", {}, ...line(name, norm)));
        for (const parameter of parameters) {
          const short = parameter.name.replace(/^transformer\.(blocks\.\d+\.)?/, "");
          details.append(element("div", { class: "play-part" }, ...line(short, parameter.norm)));
        }
        details.open = open.has(name);
        return details;
      }),
    );
  }

  $("step").addEventListener("click", () => {
    state.steps.push(state.run.loss);
    model.step(Number($("rate").value));
    compute();
  });
  $("reset").addEventListener("click", () => {
    state.steps = [];
    model.reset();
    compute();
  });

  /* The width of a cell with which a grid fits into its column, between two limits: 90 px are for the labels. */
  function fitting(canvas, columns, least, most) {
    return Math.min(Math.max(Math.floor((canvas.parentElement.clientWidth - 90) / columns), least), most);
  }

  // ---- Beginning -----------------------------------------------------------------------------------------------------

  function range(count) {
    return [...Array(count).keys()];
  }

  for (const [name, text] of Object.entries(AXONE_MODEL.examples)) {
    const button = element("button", { type: "button" }, name);
    button.addEventListener("click", () => {
      $("text").value = text;
      read();
    });
    $("examples").append(button);
  }
  let pause = null;
  $("text").addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(read, 150);
  });
  const redraw = () => state.run && state.ids.length && compute();
  new MutationObserver(redraw).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  $("text").value = Object.values(AXONE_MODEL.examples)[0];
  read();
  $("text").closest(".play").dataset.ready = "true";
})();
