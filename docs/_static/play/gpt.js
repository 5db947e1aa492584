/* A GPT in plain JavaScript: the forward pass and the backward pass.
 *
 * Every operation computes its output and records a function that propagates the output's gradient to its inputs. The
 * functions are called in reverse order: backpropagation. A test compares logits, attention and gradients with axone's.
 *
 * T tokens, C channels, H heads, D channels of a head, V tokens in the vocabulary. A matrix has rows and columns; a
 * vector is a matrix of one row.
 */
"use strict";

const axone = (() => {
  class Matrix {
    constructor(rows, columns, data = new Float64Array(rows * columns)) {
      this.rows = rows;
      this.columns = columns;
      this.data = data;
      this.grad = new Float64Array(rows * columns);
    }

    row(i) {
      return this.data.subarray(i * this.columns, (i + 1) * this.columns);
    }
  }

  /* The tape: operations in the order in which they were computed. */
  class Tape {
    constructor() {
      this.steps = [];
    }

    record(output, backward) {
      this.steps.push(backward);
      return output;
    }

    backward() {
      for (const step of this.steps.reverse()) step();
      this.steps = [];
    }
  }

  // ---- Operations ----------------------------------------------------------------------------------------------------

  /* Rows of a table, one for each id. */
  function embedding(tape, ids, table) {
    const y = new Matrix(ids.length, table.columns); // (T, C)
    ids.forEach((id, t) => y.row(t).set(table.row(id)));
    return tape.record(y, () => {
      ids.forEach((id, t) => {
        for (let c = 0; c < y.columns; c++) table.grad[id * y.columns + c] += y.grad[t * y.columns + c];
      });
    });
  }

  function add(tape, a, b) {
    const y = new Matrix(a.rows, a.columns);
    for (let i = 0; i < y.data.length; i++) y.data[i] = a.data[i] + b.data[i];
    return tape.record(y, () => {
      for (let i = 0; i < y.data.length; i++) {
        a.grad[i] += y.grad[i];
        b.grad[i] += y.grad[i];
      }
    });
  }

  /* y = x Wᵀ + b, with W of shape (out, in). */
  function linear(tape, x, weight, bias = null) {
    const [n, m] = [weight.columns, weight.rows];
    const y = new Matrix(x.rows, m);
    for (let t = 0; t < x.rows; t++) {
      for (let o = 0; o < m; o++) {
        let sum = bias ? bias.data[o] : 0;
        for (let i = 0; i < n; i++) sum += x.data[t * n + i] * weight.data[o * n + i];
        y.data[t * m + o] = sum;
      }
    }
    return tape.record(y, () => {
      for (let t = 0; t < x.rows; t++) {
        for (let o = 0; o < m; o++) {
          const g = y.grad[t * m + o];
          if (bias) bias.grad[o] += g;
          for (let i = 0; i < n; i++) {
            x.grad[t * n + i] += g * weight.data[o * n + i];
            weight.grad[o * n + i] += g * x.data[t * n + i];
          }
        }
      }
    });
  }

  /* Each row minus its mean, divided by its standard deviation, times a weight, plus a bias. */
  function layerNorm(tape, x, weight, bias, eps) {
    const n = x.columns;
    const y = new Matrix(x.rows, n);
    const normal = new Float64Array(x.data.length);
    const scale = new Float64Array(x.rows); // 1 / standard deviation
    for (let t = 0; t < x.rows; t++) {
      const row = x.row(t);
      const mean = row.reduce((sum, value) => sum + value, 0) / n;
      const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / n;
      scale[t] = 1 / Math.sqrt(variance + eps);
      for (let i = 0; i < n; i++) {
        normal[t * n + i] = (row[i] - mean) * scale[t];
        y.data[t * n + i] = normal[t * n + i] * weight.data[i] + bias.data[i];
      }
    }
    return tape.record(y, () => {
      for (let t = 0; t < x.rows; t++) {
        let [mean, product] = [0, 0]; // of h = g weight, and of h times the normalized row
        for (let i = 0; i < n; i++) {
          const k = t * n + i;
          const h = y.grad[k] * weight.data[i];
          weight.grad[i] += y.grad[k] * normal[k];
          bias.grad[i] += y.grad[k];
          mean += h / n;
          product += (h * normal[k]) / n;
        }
        for (let i = 0; i < n; i++) {
          const k = t * n + i;
          x.grad[k] += scale[t] * (y.grad[k] * weight.data[i] - mean - normal[k] * product);
        }
      }
    });
  }

  /* GELU in its tanh approximation: x Φ(x), a smooth max(x, 0). */
  function gelu(tape, x) {
    const y = new Matrix(x.rows, x.columns);
    const [a, b] = [Math.sqrt(2 / Math.PI), 0.044715];
    const tanh = x.data.map((value) => Math.tanh(a * (value + b * value ** 3)));
    for (let i = 0; i < y.data.length; i++) y.data[i] = 0.5 * x.data[i] * (1 + tanh[i]);
    return tape.record(y, () => {
      for (let i = 0; i < y.data.length; i++) {
        const slope = a * (1 + 3 * b * x.data[i] ** 2) * (1 - tanh[i] ** 2);
        x.grad[i] += y.grad[i] * 0.5 * (1 + tanh[i] + x.data[i] * slope);
      }
    });
  }

  /* Rotary positions: pairs of channels (i, i + D / 2) of each query and key are rotated by the angle t / theta^(2i / D),
   * so that their product depends on the distance of two tokens. A row of qkv: see `attention`.
   */
  function rotary(tape, qkv, H, theta) {
    const [C, half] = [qkv.columns / 3, qkv.columns / 3 / H / 2];
    const y = new Matrix(qkv.rows, qkv.columns, qkv.data.slice());
    const rotate = (values, direction) => {
      for (let t = 0; t < y.rows; t++) {
        for (let h = 0; h < 2 * H; h++) {
          for (let i = 0; i < half; i++) {
            const angle = (direction * t) / theta ** (i / half);
            const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
            const k = t * 3 * C + h * 2 * half + i;
            const [a, b] = [values[k], values[k + half]];
            values[k] = a * cos - b * sin;
            values[k + half] = b * cos + a * sin;
          }
        }
      }
    };
    rotate(y.data, 1);
    return tape.record(y, () => {
      rotate(y.grad, -1);
      for (let k = 0; k < y.grad.length; k++) qkv.grad[k] += y.grad[k];
    });
  }

  /* Causal attention of H heads: softmax(Q Kᵀ / √D) V, where position t attends to positions 0 to t.
   * A row of qkv holds the queries of all heads, then their keys, then their values. `weights` gets one (T, T) per head.
   */
  function attention(tape, qkv, H, weights) {
    const [T, C] = [qkv.rows, qkv.columns / 3];
    const D = C / H;
    const y = new Matrix(T, C);
    const at = (t, part, h) => t * 3 * C + part * C + h * D; // of a head's query (0), key (1) or value (2)
    for (let h = 0; h < H; h++) {
      const W = new Matrix(T, T);
      weights.push(W);
      for (let t = 0; t < T; t++) {
        const scores = W.row(t).subarray(0, t + 1);
        for (let s = 0; s <= t; s++) {
          for (let d = 0; d < D; d++) scores[s] += qkv.data[at(t, 0, h) + d] * qkv.data[at(s, 1, h) + d];
          scores[s] /= Math.sqrt(D);
        }
        scores.set(softmax(scores));
        for (let s = 0; s <= t; s++) {
          for (let d = 0; d < D; d++) y.data[t * C + h * D + d] += scores[s] * qkv.data[at(s, 2, h) + d];
        }
      }
    }
    return tape.record(y, () => {
      weights.forEach((W, h) => {
        for (let t = 0; t < T; t++) {
          let mean = 0; // of the weights' gradients, weighted: the softmax's derivative needs it
          for (let s = 0; s <= t; s++) {
            for (let d = 0; d < D; d++) {
              const g = y.grad[t * C + h * D + d];
              W.grad[t * T + s] += g * qkv.data[at(s, 2, h) + d];
              qkv.grad[at(s, 2, h) + d] += g * W.data[t * T + s];
            }
            mean += W.grad[t * T + s] * W.data[t * T + s];
          }
          for (let s = 0; s <= t; s++) {
            const g = (W.data[t * T + s] * (W.grad[t * T + s] - mean)) / Math.sqrt(D);
            for (let d = 0; d < D; d++) {
              qkv.grad[at(t, 0, h) + d] += g * qkv.data[at(s, 1, h) + d];
              qkv.grad[at(s, 1, h) + d] += g * qkv.data[at(t, 0, h) + d];
            }
          }
        }
      });
    });
  }

  function softmax(scores) {
    const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
    const weights = Float64Array.from(scores, (score) => Math.exp(score - largest));
    const sum = weights.reduce((a, b) => a + b, 0);
    return weights.map((weight) => weight / sum);
  }

  /* The loss of each prediction in nats: minus the logarithm of the probability of the token that follows. `backward`
   * propagates the gradient of their mean.
   */
  function crossEntropy(tape, logits, targets) {
    const probabilities = targets.map((_, t) => softmax(logits.row(t)));
    const losses = targets.map((target, t) => -Math.log(probabilities[t][target]));
    return tape.record(losses, () => {
      targets.forEach((target, t) => {
        for (let v = 0; v < logits.columns; v++) {
          logits.grad[t * logits.columns + v] += (probabilities[t][v] - (v === target)) / targets.length;
        }
      });
    });
  }

  // ---- The model -----------------------------------------------------------------------------------------------------

  class GPT {
    /* `saved`: the configuration, and for each parameter its shape and its values as float16 in base64. */
    constructor(saved) {
      this.config = saved.config;
      this.saved = saved;
      this.parameters = {};
      for (const [name, { shape }] of Object.entries(saved.parameters)) {
        const [rows, columns] = shape.length === 2 ? shape : [1, shape[0]];
        this.parameters[name] = new Matrix(rows, columns);
      }
      this.reset();
    }

    /* Set all weights to the saved ones. */
    reset() {
      for (const [name, { data }] of Object.entries(this.saved.parameters)) {
        this.parameters[name].data.set(float16(base64(data)));
      }
    }

    /* Compute logits, attention, the residual stream and the losses of a text, all with the tape for `backward`. */
    forward(ids) {
      const { num_layers: L, num_heads: H, norm_eps: eps, rope_theta: theta } = this.config;
      const tape = new Tape();
      const p = (name) => this.parameters[name];
      const norm = (x, name) => layerNorm(tape, x, p(`${name}.weight`), p(`${name}.bias`), eps);
      const project = (x, name) => linear(tape, x, p(`${name}.weight`), p(`${name}.bias`));

      let x = embedding(tape, ids, p("embedding.weight")); // (T, C)
      const stream = [x];
      const maps = [];
      for (let l = 0; l < L; l++) {
        const block = `transformer.blocks.${l}`;
        const weights = [];
        const qkv = project(norm(x, `${block}.attention_norm`), `${block}.attention.qkv_proj`); // (T, 3C)
        const heads = attention(tape, rotary(tape, qkv, H, theta), H, weights); // (T, C)
        x = add(tape, x, project(heads, `${block}.attention.out_proj`));
        const hidden = gelu(tape, project(norm(x, `${block}.mlp_norm`), `${block}.mlp.up_proj`)); // (T, 4C)
        x = add(tape, x, project(hidden, `${block}.mlp.down_proj`));
        maps.push(weights);
        stream.push(x);
      }
      const logits = linear(tape, norm(x, "transformer.norm"), p("embedding.weight")); // (T, V)
      const losses = crossEntropy(tape, logits, ids.slice(1));
      const loss = losses.reduce((a, b) => a + b, 0) / Math.max(losses.length, 1);
      return { ids, logits, attention: maps, stream, losses, loss, tape };
    }

    /* Propagate the gradient of the mean loss to all weights and to the stream. */
    backward(run) {
      for (const parameter of Object.values(this.parameters)) parameter.grad.fill(0);
      run.tape.backward();
    }

    /* One step of gradient descent: each weight against its gradient. */
    step(learningRate) {
      for (const { data, grad } of Object.values(this.parameters)) {
        for (let i = 0; i < data.length; i++) data[i] -= learningRate * grad[i];
      }
    }

    /* The norm of the gradient of each parameter, and of each part of the model. */
    gradientNorms() {
      const squares = Object.entries(this.parameters).map(([name, { grad }]) => [name, sumOfSquares(grad)]);
      const parts = new Map();
      for (const [name, square] of squares) {
        const block = name.match(/blocks\.(\d+)\./);
        const part = block ? `block ${Number(block[1]) + 1}` : name.replace(/^transformer\.|\.weight$|\.bias$/g, "");
        if (!parts.has(part)) parts.set(part, { square: 0, parameters: [] });
        parts.get(part).square += square;
        parts.get(part).parameters.push({ name, norm: Math.sqrt(square) });
      }
      return [...parts].map(([name, { square, parameters }]) => ({ name, norm: Math.sqrt(square), parameters }));
    }
  }

  function sumOfSquares(values) {
    return values.reduce((sum, value) => sum + value * value, 0);
  }

  // ---- The saved weights ---------------------------------------------------------------------------------------------

  function base64(text) {
    const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const value = new Map([...letters].map((letter, i) => [letter, i]));
    const bytes = [];
    let [bits, count] = [0, 0];
    for (const letter of text.replace(/=+$/, "")) {
      bits = ((bits << 6) | value.get(letter)) & 0xffff;
      count += 6;
      if (count >= 8) {
        count -= 8;
        bytes.push((bits >> count) & 255);
      }
    }
    return bytes;
  }

  function float16(bytes) {
    return Float64Array.from({ length: bytes.length / 2 }, (_, i) => {
      const bits = bytes[2 * i] | (bytes[2 * i + 1] << 8);
      const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
      return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : (2 ** -14 * fraction) / 1024);
    });
  }

  return { GPT, softmax, sumOfSquares };
})();
