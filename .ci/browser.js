/* Checks of the built documentation in a browser: .ci/browser.py serves this script with the list of pages, and gets the
 * faults. Each page is opened in a frame, at the widths of a computer and of a phone.
 */
"use strict";

const WIDTHS = [1400, 400];
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const visible = (element) => element.getClientRects().length > 0;

async function open(page, width) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width: ${width}px; height: 900px; border: 0`;
  frame.src = page;
  document.body.replaceChildren(frame);
  await new Promise((resolve) => frame.addEventListener("load", resolve));
  return frame.contentWindow;
}

/* The faults of the layout: a page wider than the window, or at 1,400 px a line of code wider than its block. */
function layout({ document: page }, width) {
  const found = [];
  const wider = page.documentElement.scrollWidth - page.documentElement.clientWidth;
  if (wider > 0) found.push(`is ${wider} px wider than the window`);
  if (width < 1400) return found;
  for (const block of page.querySelectorAll("div.highlight pre")) {
    const cut = block.scrollWidth - block.clientWidth;
    if (visible(block) && cut > 1) found.push(`cuts ${cut} px off a block of code: ${block.textContent.slice(0, 60)}`);
  }
  return found;
}

/* The faults of the page to play: errors, foreign requests, and controls without an effect. */
async function play(window) {
  const { document: page } = window;
  const $ = (id) => page.getElementById(`play-${id}`);
  const found = [];
  const require = (holds, fault) => holds || found.push(fault);
  const set = (id, value) => {
    $(id).value = value;
    $(id).dispatchEvent(new window.Event("input"));
  };
  const press = (element, key) => element.dispatchEvent(new window.KeyboardEvent("keydown", { key, bubbles: true }));

  require(page.querySelector(".play").dataset.ready === "true", "does not compute its first text");
  const text = "Ben has a red boat. Ben is in the park.";
  set("text", text);
  await pause(400);
  const chips = () => [...$("tokens").children];
  require(chips().length > 8, "shows no tokens");
  require(chips().at(-1).getAttribute("aria-selected") === "true", "does not choose the last token");
  press(chips().at(-1), "ArrowLeft");
  require(chips().at(-2).getAttribute("aria-selected") === "true", "does not follow the arrow keys");
  require($("heads").querySelectorAll("button").length === 12, "does not show 12 heads");
  const before = $("map-readout").textContent;
  $("heads").querySelectorAll("button")[5].click();
  require(/^Block 2, head 2: .*weight 0\.\d{6}/.test($("map-readout").textContent), "shows no exact attention weight");
  press($("map"), "ArrowLeft");
  require($("map-readout").textContent !== before, "does not move in the attention map");
  const rows = () => $("next").querySelectorAll("tr:not(:first-child):not(.play-cut)").length;
  require(rows() === 11, "does not show the probabilities of the next token");
  set("topk", 1);
  require(rows() === 1, "does not apply top-k");
  set("topk", 41);
  set("topp", 0.05);
  require(rows() === 1, "does not apply top-p");
  set("topp", 1);
  set("temperature", 0);
  require(rows() === 1, "does not apply the temperature");
  $("one").click();
  require($("text").value.startsWith(text) && $("text").value.length > text.length, "does not add a token");
  $("undo").click();
  require($("text").value === text, "does not undo");
  const loss = () => Number($("loss").textContent.match(/[\d.]+/)[0]);
  require($("parts").querySelectorAll("details").length === 5, "does not show the gradient of each block");
  const first = loss();
  $("step").click();
  require(loss() < first, "does not lower the loss by a step");
  $("reset").click();
  require(loss() === first, "does not restore the weights");
  const foreign = window.performance.getEntriesByType("resource").filter(({ name }) => !name.startsWith(location.origin));
  require(!foreign.length, `requests ${foreign.map(({ name }) => name)}`);
  return found;
}

async function check(pages) {
  const faults = [];
  for (const width of WIDTHS) {
    for (const page of pages) {
      const window = await open(page, width);
      const found = layout(window, width);
      if (window.document.getElementById("play")) found.push(...(await play(window)), ...layout(window, width));
      faults.push(...found.map((fault) => `${page} at ${width} px ${fault}`));
    }
  }
  return faults;
}

check(PAGES)
  .catch((error) => [`${error}: ${error.stack}`])
  .then((faults) => fetch("/.faults", { method: "POST", body: JSON.stringify(faults) }));
