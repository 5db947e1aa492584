/* Pictures of the page to play: cells on a canvas with labels, and a cursor that the mouse and the arrow keys move. */
"use strict";

axone.drawing = (() => {
  const FONT = "12px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace";

  /* A color of the theme: a custom property of the page. */
  const color = (name) => getComputedStyle(document.getElementById("play")).getPropertyValue(`--play-${name}`).trim();

  const channels = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

  /* The color of a share in [0, 1], from the background to the full color. The square root shows small shares. */
  function shade(share, full, empty = color("empty")) {
    const weight = Math.sqrt(Math.min(Math.max(share, 0), 1));
    const to = channels(full);
    return `rgb(${channels(empty).map((from, i) => Math.round(from + (to[i] - from) * weight)).join(" ")})`;
  }

  /* A canvas of a size in CSS pixels, sharp on every screen. */
  function resize(canvas, width, height) {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    return context;
  }

  /* A small picture of an attention map, without labels. */
  function thumbnail(canvas, weights, side) {
    const context = resize(canvas, side, side);
    const cell = side / weights.rows;
    const [full, empty] = [color("attention"), color("empty")];
    context.fillStyle = empty;
    context.fillRect(0, 0, side, side);
    for (let t = 0; t < weights.rows; t++) {
      for (let s = 0; s <= t; s++) {
        context.fillStyle = shade(weights.row(t)[s], full, empty);
        context.fillRect(s * cell, t * cell, cell + 0.3, cell + 0.3);
      }
    }
  }

  /* A grid of cells with labels on top and on the left, and a cursor.
   *
   * `draw({ rows, columns, share, full, cell })`: the labels; the share and the color of a cell, or null where there is
   * none; its width and height. `onmove(row, column)` is called when the cursor moves, `onchoose` at a click or Enter.
   */
  class Grid {
    constructor(canvas, { onmove, onchoose = () => {} }) {
      this.canvas = canvas;
      this.cursor = { row: 0, column: 0 };
      this.onmove = onmove;
      const choose = () => onchoose(this.cursor.row, this.cursor.column);
      canvas.addEventListener("pointermove", (event) => this.point(event));
      canvas.addEventListener("pointerdown", (event) => this.point(event) && choose());
      canvas.addEventListener("keydown", (event) => {
        const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
        if (step) this.move(this.cursor.row + step[0], this.cursor.column + step[1]);
        else if (event.key === "Enter" || event.key === " ") choose();
        else return;
        event.preventDefault();
      });
    }

    point(event) {
      const box = this.canvas.getBoundingClientRect();
      const row = Math.floor((event.clientY - box.top - this.top) / this.spec.cell[1]);
      const column = Math.floor((event.clientX - box.left - this.left) / this.spec.cell[0]);
      return this.move(row, column);
    }

    move(row, column) {
      if (!this.has(row, column)) return false;
      this.cursor = { row, column };
      this.paint();
      this.onmove(row, column);
      return true;
    }

    has(row, column) {
      const { rows, columns, share } = this.spec;
      return row >= 0 && column >= 0 && row < rows.length && column < columns.length && share(row, column) !== null;
    }

    draw(spec) {
      this.spec = spec;
      const context = this.canvas.getContext("2d");
      context.font = FONT;
      const longest = (labels) => Math.max(...labels.map((label) => context.measureText(label).width));
      this.left = Math.ceil(longest(spec.rows)) + 8;
      this.top = Math.ceil(longest(spec.columns)) + 8;
      if (!this.has(this.cursor.row, this.cursor.column)) this.cursor = { row: spec.rows.length - 1, column: 0 };
      this.paint();
      this.onmove(this.cursor.row, this.cursor.column);
    }

    paint() {
      const { rows, columns, share, full, cell } = this.spec;
      const [width, height] = cell;
      const context = resize(this.canvas, this.left + columns.length * width + 1, this.top + rows.length * height + 1);
      const [text, muted, empty] = [color("text"), color("muted"), color("empty")];
      context.font = FONT;
      context.textBaseline = "middle";
      rows.forEach((label, row) => {
        context.fillStyle = row === this.cursor.row ? text : muted;
        context.textAlign = "right";
        context.fillText(label, this.left - 5, this.top + (row + 0.5) * height);
      });
      columns.forEach((label, column) => {
        context.save();
        context.translate(this.left + (column + 0.5) * width, this.top - 5);
        context.rotate(-Math.PI / 2);
        context.fillStyle = column === this.cursor.column ? text : muted;
        context.textAlign = "left";
        context.fillText(label, 0, 0);
        context.restore();
      });
      rows.forEach((_, row) => {
        columns.forEach((_, column) => {
          const value = share(row, column);
          if (value === null) return;
          context.fillStyle = shade(value, full(row), empty);
          context.fillRect(this.left + column * width, this.top + row * height, width - 1, height - 1);
        });
      });
      context.strokeStyle = text;
      context.lineWidth = 2;
      context.strokeRect(
        this.left + this.cursor.column * width,
        this.top + this.cursor.row * height,
        width - 1,
        height - 1,
      );
    }
  }

  return { color, shade, thumbnail, Grid };
})();
