// Cells on a map: coloured by a column that the reader chooses, with a box that tells of the cell under the pointer.
// Text from the data reaches the page as textContent or as letters on the canvas, never as HTML.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("map-data").textContent);
  const figure = document.getElementById("map");
  const canvas = figure.querySelector("canvas");
  const context = canvas.getContext("2d");
  const hover = figure.querySelector(".hover");
  const legend = figure.querySelector(".legend");
  const select = figure.querySelector("select");
  const n = data.x.length;
  const view = { scale: 1, x: 0, y: 0 };
  let column = data.columns[0];
  let only = null; // the category that stands out
  let width = 0;
  let height = 0;
  let drag = null;

  const place = (i) => [
    (data.x[i] / data.span) * width * view.scale + view.x,
    (1 - data.y[i] / data.span) * height * view.scale + view.y,
  ];

  const colorOf = (i) => {
    const value = column.values[i];
    if (value === null) return data.missing;
    if (column.levels) return only === null || only === value ? column.colors[value] : data.missing;
    const share = (value - column.low) / (column.high - column.low || 1);
    return data.ramp[Math.round(Math.min(Math.max(share, 0), 1) * (data.ramp.length - 1))];
  };

  // highest values and the chosen category on top
  const inOrder = () => {
    const rank = (i) => {
      const value = column.values[i];
      if (value === null) return -Infinity;
      return column.levels ? (value === only ? 1 : 0) : value;
    };
    const order = Array.from({ length: n }, (_, i) => i);
    return column.levels && only === null ? order : order.sort((a, b) => rank(a) - rank(b));
  };

  const drawNames = () => {
    if (!column.levels || column.levels.length > 30) return;
    context.font = "bold 13px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 3;
    context.strokeStyle = "#fff";
    context.fillStyle = "#000";
    column.middles.forEach((middle, level) => {
      if (middle === null || column.levels[level].length > 24) return;
      const there = (middle[0] / data.span) * width * view.scale + view.x;
      const half = context.measureText(column.levels[level]).width / 2 + 2;
      // a name at the edge stays whole while its place is in sight
      const x = there < 0 || there > width ? there : Math.min(Math.max(there, half), width - half);
      const y = (1 - middle[1] / data.span) * height * view.scale + view.y;
      context.strokeText(column.levels[level], x, y);
      context.fillText(column.levels[level], x, y);
    });
  };

  const draw = () => {
    const ratio = window.devicePixelRatio || 1;
    width = canvas.clientWidth;
    height = canvas.clientHeight;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const radius = Math.min(Math.max(90 / Math.sqrt(n), 1), 4) * Math.sqrt(view.scale);
    for (const i of inOrder()) {
      const [x, y] = place(i);
      context.fillStyle = colorOf(i);
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.fill();
    }
    drawNames();
    canvas.dataset.drawn = n;
  };

  const shownValue = (each, i) => {
    const value = each.values[i];
    if (value === null) return "none";
    return each.levels ? each.levels[value] : value.toLocaleString("en");
  };

  const nearest = (x, y) => {
    let best = null;
    let least = 15 ** 2;
    for (let i = 0; i < n; i++) {
      const [cellX, cellY] = place(i);
      const distance = (cellX - x) ** 2 + (cellY - y) ** 2;
      if (distance < least) [best, least] = [i, distance];
    }
    return best;
  };

  const tell = (x, y) => {
    const i = nearest(x, y);
    hover.hidden = i === null;
    if (i === null) return;
    hover.replaceChildren(
      ...data.columns.map((each) => {
        const line = document.createElement("div");
        line.textContent = `${each.name}: ${shownValue(each, i)}`;
        return line;
      }),
    );
    const right = x > width / 2;
    hover.style.left = right ? "auto" : `${x + 14}px`;
    hover.style.right = right ? `${width - x + 14}px` : "auto";
    hover.style.top = `${Math.max(Math.min(y, height - hover.offsetHeight), 0)}px`;
  };

  const swatch = (color, name, level) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", only === level);
    const square = document.createElement("span");
    square.style.background = color;
    button.append(square, name);
    button.addEventListener("click", () => {
      only = only === level ? null : level;
      drawLegend();
      draw();
    });
    return button;
  };

  const drawLegend = () => {
    if (column.levels) {
      legend.replaceChildren(...column.levels.map((name, level) => swatch(column.colors[level], name, level)));
      return;
    }
    const bar = document.createElement("span");
    bar.className = "ramp";
    bar.style.background = `linear-gradient(to right, ${data.ramp.join(",")})`;
    legend.replaceChildren(column.low.toLocaleString("en"), bar, column.high.toLocaleString("en"));
  };

  const zoom = (factor, x, y) => {
    const scale = Math.min(Math.max(view.scale * factor, 1), 40);
    view.x = x - ((x - view.x) * scale) / view.scale;
    view.y = y - ((y - view.y) * scale) / view.scale;
    view.scale = scale;
    if (scale === 1) view.x = view.y = 0;
    canvas.style.touchAction = scale > 1 ? "none" : "pan-y";
    hover.hidden = true;
    draw();
  };

  data.columns.forEach((each, i) => {
    const option = document.createElement("option");
    option.value = i;
    option.textContent = each.name;
    select.append(option);
  });
  select.addEventListener("change", () => {
    column = data.columns[select.value];
    only = null;
    drawLegend();
    draw();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (drag && event.buttons) {
      view.x += event.offsetX - drag[0];
      view.y += event.offsetY - drag[1];
      drag = [event.offsetX, event.offsetY];
      hover.hidden = true;
      draw();
    } else tell(event.offsetX, event.offsetY);
  });
  canvas.addEventListener("pointerdown", (event) => {
    drag = view.scale > 1 ? [event.offsetX, event.offsetY] : null;
    tell(event.offsetX, event.offsetY);
  });
  canvas.addEventListener("pointerleave", () => (hover.hidden = true));
  canvas.addEventListener("dblclick", (event) => zoom(2, event.offsetX, event.offsetY));
  figure.querySelector(".closer").addEventListener("click", () => zoom(1.5, width / 2, height / 2));
  figure.querySelector(".further").addEventListener("click", () => zoom(1 / 1.5, width / 2, height / 2));
  figure.querySelector(".whole").addEventListener("click", () => zoom(0, 0, 0));
  figure.hidden = false;
  drawLegend();
  new ResizeObserver(draw).observe(canvas);
  draw();
})();
