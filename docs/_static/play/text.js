/* Text and tokens in plain JavaScript: the tokenizer, and the choice of the next token. A test compares both with axone's. */
"use strict";

Object.assign(axone, (() => {
  // ---- Sampling ------------------------------------------------------------------------------------------------------

  /* The distribution from which a token is drawn: temperature, then top-k, then top-p; 0 for tokens that are cut. */
  function filtered(logits, { temperature, topK, topP }) {
    const order = [...logits.keys()].sort((a, b) => logits[b] - logits[a]); // the most probable first
    if (temperature === 0) return Float64Array.from(logits, (_, id) => Number(id === order[0]));
    const scores = Float64Array.from(logits, (logit) => (logit - logits[order[0]]) / temperature);
    const least = topK < order.length ? scores[order[topK - 1]] : -Infinity;
    const remaining = scores.map((score) => (score < least ? -Infinity : score));
    const probabilities = axone.softmax(remaining);
    let sum = 0;
    for (const id of order) {
      if (sum >= topP) remaining[id] = -Infinity;
      sum += probabilities[id];
    }
    return axone.softmax(remaining);
  }

  /* Draw an id: the first up to which the probabilities sum to more than a number in [0, 1). */
  function draw(probabilities, uniform) {
    let sum = 0;
    let last = 0;
    for (let id = 0; id < probabilities.length; id++) {
      if (probabilities[id] > 0) last = id;
      sum += probabilities[id];
      if (sum > uniform) return id;
    }
    return last;
  }

  /* A generator of numbers in [0, 1) from a seed: mulberry32. */
  function generator(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  // ---- The tokenizer -------------------------------------------------------------------------------------------------

  /* Byte-level BPE: a text is cut into words, each word into bytes, and pairs of tokens are merged, the first learned
   * pair first.
   */
  class Tokenizer {
    constructor(merges) {
      this.ranks = new Map(merges.map(([left, right], rank) => [`${left} ${right}`, rank]));
      this.bytes = Array.from({ length: 256 }, (_, byte) => [byte]); // of each id
      for (const [left, right] of merges) this.bytes.push([...this.bytes[left], ...this.bytes[right]]);
    }

    encode(text) {
      const words = /'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s/gu; // GPT-2's pattern
      return (text.replace(/\p{Surrogate}/gu, "\ufffd").match(words) ?? []).flatMap((word) => this.merge(utf8(word)));
    }

    merge(ids) {
      const rank = (i) => this.ranks.get(`${ids[i]} ${ids[i + 1]}`) ?? Infinity;
      for (;;) {
        let best = -1;
        for (let i = 0; i + 1 < ids.length; i++) {
          if (rank(i) < (best < 0 ? Infinity : rank(best))) best = i;
        }
        if (best < 0) return ids;
        const [left, right, merged] = [ids[best], ids[best + 1], 256 + rank(best)];
        for (let i = best; i + 1 < ids.length; i++) {
          if (ids[i] === left && ids[i + 1] === right) ids.splice(i, 2, merged);
        }
      }
    }

    decode(ids) {
      const hex = ids.flatMap((id) => this.bytes[id]).map((byte) => `%${byte.toString(16).padStart(2, "0")}`);
      try {
        return decodeURIComponent(hex.join(""));
      } catch {
        return "\ufffd"; // a part of a character
      }
    }
  }

  function utf8(text) {
    return (encodeURIComponent(text).match(/%..|[^%]/g) ?? []).map((part) =>
      part.length === 3 ? parseInt(part.slice(1), 16) : part.charCodeAt(0),
    );
  }

  return { Tokenizer, filtered, draw, generator };
})());
