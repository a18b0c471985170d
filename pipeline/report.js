"use strict";
(() => {
  const element = (id) => document.getElementById(id);
  const place = JSON.parse(element("viewer-data").textContent);
  const layers = JSON.parse(element("layer-data").textContent);
  const canvas = element("canvas");
  const context = canvas.getContext("2d");
  if (!context) return;  // the plates below stay visible
  document.documentElement.classList.add("js");
  element("viewer").hidden = false;

  const outline = new Path2D();
  for (const ring of place.outline) {
    for (let i = 0; i < ring.length; i += 2) {
      if (i === 0) outline.moveTo(ring[0], ring[1]); else outline.lineTo(ring[i], ring[i + 1]);
    }
    outline.closePath();
  }

  // The window: `scale` screen pixels a map pixel; x, y the map position of the upper left corner.
  const view = { scale: 1, x: 0, y: 0, moved: false };
  const size = () => ({ width: canvas.clientWidth, height: canvas.clientHeight });
  const fitting = () => Math.min(size().width / place.width, size().height / place.height) * 0.94;

  function fit() {
    view.scale = fitting();
    view.x = place.width / 2 - size().width / 2 / view.scale;
    view.y = place.height / 2 - size().height / 2 / view.scale;
    view.moved = false;
    draw();
  }

  function keepInSight() {
    const half = { x: size().width / 2 / view.scale, y: size().height / 2 / view.scale };
    view.x = Math.min(Math.max(view.x, -half.x), place.width - half.x);
    view.y = Math.min(Math.max(view.y, -half.y), place.height - half.y);
  }

  function zoom(factor, at) {
    const point = at || { x: size().width / 2, y: size().height / 2 };
    const scale = Math.min(Math.max(view.scale * factor, fitting() * 0.5), 64);
    view.x += point.x / view.scale - point.x / scale;
    view.y += point.y / view.scale - point.y / scale;
    view.scale = scale;
    view.moved = true;
    keepInSight();
    draw();
  }

  function move(dx, dy) {
    view.x -= dx / view.scale;
    view.y -= dy / view.scale;
    view.moved = true;
    keepInSight();
    draw();
  }

  function picture(id, opacity) {
    const image = element(id);
    if (!image || !image.complete || !image.naturalWidth) return;
    context.globalAlpha = opacity;
    context.imageSmoothingEnabled = view.scale * place.width < image.naturalWidth * 0.75;
    context.drawImage(image, -view.x * view.scale, -view.y * view.scale, place.width * view.scale, place.height * view.scale);
    context.globalAlpha = 1;
  }

  let waiting = false;
  function draw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      const ratio = window.devicePixelRatio || 1;
      const { width, height } = size();
      if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
        canvas.width = Math.round(width * ratio);
        canvas.height = Math.round(height * ratio);
      }
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, width, height);
      if (element("under-layer").value) picture(element("under-layer").value, 1);
      picture(element("top-layer").value, element("opacity").value / 100);
      context.save();
      context.transform(view.scale, 0, 0, view.scale, -view.x * view.scale, -view.y * view.scale);
      context.lineWidth = 1.6 / view.scale;
      context.strokeStyle = "#20262a";
      context.stroke(outline);
      context.restore();
      if (byKeys()) cross(width / 2, height / 2);
      scaleBar(width);
    });
  }

  // Who moves the map with keys reads its middle, marked by a cross.
  const byKeys = () => canvas.matches(":focus-visible");
  function cross(x, y) {
    for (const [colour, width] of [["#fff", 4], ["#20262a", 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      context.moveTo(x - 9, y);
      context.lineTo(x + 9, y);
      context.moveTo(x, y - 9);
      context.lineTo(x, y + 9);
      context.stroke();
    }
  }

  function scaleBar(width) {
    const most = Math.min(width * 0.3, 180) * place.metres / view.scale;
    const power = 10 ** Math.floor(Math.log10(most));
    const metres = [5, 2, 1].map((factor) => factor * power).find((length) => length <= most);
    element("scale-bar").style.width = `${metres * view.scale / place.metres}px`;
    element("scale-text").textContent = metres >= 1000 ? `${metres / 1000} km` : `${metres} m`;
  }

  // What lies under the pointer, read from the colours of the pictures (no two meanings share one).
  const readers = new Map();
  function reader(layer) {
    if (readers.has(layer.id)) return readers.get(layer.id);
    const image = element(layer.id);
    const sheet = document.createElement("canvas");
    sheet.width = image.naturalWidth;
    sheet.height = image.naturalHeight;
    const pen = sheet.getContext("2d", { willReadFrequently: true });
    pen.drawImage(image, 0, 0);
    const read = (x, y) => {
      const column = Math.floor(x / place.width * sheet.width);
      const row = Math.floor(y / place.height * sheet.height);
      const [red, green, blue, alpha] = pen.getImageData(column, row, 1, 1).data;
      if (alpha < 255) return null;
      return layer.meanings["#" + [red, green, blue].map((v) => v.toString(16).padStart(2, "0")).join("")] || null;
    };
    readers.set(layer.id, read);
    return read;
  }

  function readAt(point) {
    const x = view.x + point.x / view.scale;
    const y = view.y + point.y / view.scale;
    if (x < 0 || y < 0 || x >= place.width || y >= place.height) return "Outside the maps.";
    const [a, , c, , e, f] = place.transform;
    // A map's confidence and margin belong to its class: "Land cover: Water, confidence 98%, margin 97%".
    const parts = layers.map((layer) => [layer, reader(layer)(x, y)]).filter(([, value]) => value !== null)
      .map(([layer, value]) => (layer.of ? `, ${layer.of} ${value}` : ` · ${layer.title}: ${value}`));
    const east = c + (Math.floor(x) + 0.5) * a;
    const north = f + (Math.floor(y) + 0.5) * e;
    const digits = Math.abs(a) < 0.01 ? 5 : 0;
    return `${parts.length ? parts.join("").slice(3) : "No data"} (x ${east.toFixed(digits)}, y ${north.toFixed(digits)})`;
  }

  // The year of the pixel under the pointer: a grey picture has its twelve months below each other, 255 = not seen.
  const curves = place.curves;
  let greys = null;
  function yearAt(x, y) {
    const image = element("curves");
    if (!greys && image.complete && image.naturalWidth) {
      const sheet = document.createElement("canvas");
      sheet.width = image.naturalWidth;
      sheet.height = image.naturalHeight;
      const pen = sheet.getContext("2d", { willReadFrequently: true });
      pen.drawImage(image, 0, 0);
      greys = pen.getImageData(0, 0, sheet.width, sheet.height).data;
    }
    const inside = x >= 0 && y >= 0 && x < place.width && y < place.height;
    return curves.months.map((month, i) => {
      const at = (i * curves.rows + Math.floor(y / curves.every)) * curves.columns + Math.floor(x / curves.every);
      const value = greys && inside ? greys[4 * at] : 255;
      return value === 255 ? null : value * curves.step - 1;
    });
  }

  function showYear(point) {
    if (!curves) return;
    const year = yearAt(view.x + point.x / view.scale, view.y + point.y / view.scale);
    const spot = (value, i) => [56 + (i + 0.5) * 46.5, 8 + (1 - Math.max(value, -0.4)) * 84];
    let line = "";
    element("curve-dots").replaceChildren(...year.flatMap((value, i) => {
      if (value === null) return [];
      const [x, y] = spot(value, i).map((number) => number.toFixed(1));
      line += `${i && year[i - 1] !== null ? "L" : "M"}${x} ${y}`;
      const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
      for (const [name, of] of Object.entries({ cx: x, cy: y, r: 4 })) dot.setAttribute(name, of);
      return [dot];
    }));
    element("curve-line").setAttribute("d", line);
    const said = (value) => (value === null ? "not seen" : value.toFixed(2));
    element("curve").setAttribute("aria-label", line === "" ? "Nothing seen here"
      : "NDVI: " + curves.months.map((month, i) => `${month} ${said(year[i])}`).join(", "));
  }

  const pointers = new Map();
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const tell = (point) => {
    element("readout").textContent = readAt(point);
    showYear(point);
  };
  const spread = () => {
    const [one, two] = [...pointers.values()];
    return { x: (one.x + two.x) / 2, y: (one.y + two.y) / 2, length: Math.hypot(one.x - two.x, one.y - two.y) || 1 };
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    tell(at(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    const point = at(event);
    if (pointers.has(event.pointerId)) {
      if (pointers.size === 1) {
        const last = pointers.get(event.pointerId);
        pointers.set(event.pointerId, point);
        move(point.x - last.x, point.y - last.y);
      } else if (pointers.size === 2) {
        const before = spread();
        pointers.set(event.pointerId, point);
        const after = spread();
        move(after.x - before.x, after.y - before.y);
        zoom(after.length / before.length, after);
      }
    }
    tell(point);
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(kind, (event) => pointers.delete(event.pointerId));
  }
  canvas.addEventListener("dblclick", (event) => zoom(2, at(event)));
  // The wheel scrolls the page until the map is chosen by a click or the Tab key.
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas && !event.ctrlKey) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), at(event));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = 60;
    const actions = {
      ArrowLeft: () => move(step, 0), ArrowRight: () => move(-step, 0),
      ArrowUp: () => move(0, step), ArrowDown: () => move(0, -step),
      "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: fit,
    };
    if (!actions[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    actions[event.key]();
    tellMiddle();
  });
  const tellMiddle = () => { if (byKeys()) tell({ x: size().width / 2, y: size().height / 2 }); };
  canvas.addEventListener("focus", () => { tellMiddle(); draw(); });
  canvas.addEventListener("blur", draw);
  element("zoom-in").addEventListener("click", () => zoom(1.5));
  element("zoom-out").addEventListener("click", () => zoom(1 / 1.5));
  element("zoom-fit").addEventListener("click", fit);

  function showLegend() {
    const copy = element(`legend-${element("top-layer").value}`).cloneNode(true);
    copy.removeAttribute("id");
    element("viewer-legend").replaceChildren(copy);
    draw();
  }
  element("top-layer").addEventListener("change", showLegend);
  element("under-layer").addEventListener("change", draw);
  element("opacity").addEventListener("input", draw);
  // Until somebody moves the map, it fits whatever becomes of the window.
  new ResizeObserver(() => { if (view.moved) { keepInSight(); draw(); } else { fit(); } }).observe(canvas);
  for (const layer of layers) element(layer.id).addEventListener("load", draw);
  showLegend();
})();
