// The scrubber and the tables of a report. Pictures and frame lists are files beside the page, loaded when they are
// needed; a page on a disk may load scripts but not read files, so lists come as scripts that call `vssReport`.
"use strict";

(() => {
  const data = JSON.parse(document.getElementById("vss-data").textContent);
  const NONE = 255, KEPT = 240, AHEAD = 12, BEHIND = 4, PER_SECOND = 10;
  const byId = (id) => document.getElementById(id);
  const pad = (number, digits) => String(number).padStart(digits, "0");

  function make(tag, attributes = {}, ...inside) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...inside);
    return element;
  }

  // What videos and frames say of themselves

  const videos = new Map(), chunks = new Map(), scripts = new Map();
  window.vssReport = {
    video: (number, facts) => videos.set(number, facts),
    chunk: (number, part, frames) => chunks.set(`${number}/${part}`, frames),
  };

  function load(source) {
    if (!scripts.has(source)) {
      scripts.set(source, new Promise((done, fail) => {
        const element = make("script", { src: source });
        element.onload = done;
        element.onerror = () => { scripts.delete(source); fail(new Error(`${source} is missing`)); };
        document.head.append(element);
      }));
    }
    return scripts.get(source);
  }

  const part = (place) => Math.floor(place / data.chunk);
  const loadChunk = (video, place) => load(`videos/${pad(video, 4)}-${pad(part(place), 4)}.js`);
  const factsOf = (video, place) => chunks.get(`${video}/${part(place)}`)?.[place % data.chunk];

  // Pictures

  const pictures = new Map();

  function picture(source) {
    let found = pictures.get(source);
    if (found) pictures.delete(source); // and last again: the first of the map is the one used longest ago
    else {
      const image = new Image();
      found = { image, ready: false };
      found.done = new Promise((done) => {
        image.onload = () => image.decode().catch(() => {}).then(() => { found.ready = true; done(); });
        image.onerror = () => { found.broken = found.ready = true; done(); };
      });
      image.src = source;
    }
    pictures.set(source, found);
    if (pictures.size > KEPT) pictures.delete(pictures.keys().next().value);
    return found;
  }

  function has(key, place) {
    if (!data.videos[state.video].layers.includes(key)) return false;
    const gaps = videos.get(state.video)?.lacking[key];
    return !gaps || !gaps.includes(place);
  }

  const source = (key, place) =>
    `videos/${pad(state.video, 4)}/${pad(place, 5)}-${key}.${key === "frame" ? "jpg" : "png"}`;

  // State

  const state = { video: 0, place: 0, shown: -1, side: false, playing: false, ahead: 1, used: 0 };
  const panes = [];
  const titleOf = new Map(data.layers.map((layer) => [layer.key, layer]));
  const there = (key) => data.videos[state.video].layers.includes(key);

  function startLayers(second) {
    const wanted = second ? ["labels-b", "truth", "entropy-a"] : ["labels-a"];
    return new Set([wanted.find((key) => data.videos.some((video) => video.layers.includes(key))) ?? "labels-a"]);
  }

  for (const number of [0, 1]) {
    const canvas = make("canvas", { role: "img", tabindex: "0" });
    const layers = make("div", { class: "layers", role: "group", "aria-label": "layers" });
    const legend = make("ul", { class: "legend" });
    const box = make("div", { class: "pane" }, layers, canvas, legend);
    const pane = { number, canvas, layers, legend, box, on: startLayers(number === 1) };
    for (const event of ["pointerdown", "focusin"]) box.addEventListener(event, () => use(number));
    canvas.addEventListener("pointermove", (event) => point(pane, event));
    canvas.addEventListener("pointerdown", (event) => point(pane, event));
    canvas.addEventListener("pointerleave", () => unpoint());
    data.layers.forEach((layer, index) => {
      const button = make("button", { type: "button", "data-layer": layer.key });
      button.append(make("kbd", {}, String(index + 1)), ` ${layer.title}`);
      button.addEventListener("click", () => toggle(pane, layer.key));
      layers.append(button);
    });
    panes.push(pane);
  }

  function use(number) {
    state.used = number;
    panes.forEach((pane) => pane.box.classList.toggle("used", pane.number === number));
  }

  // Layers that cover the frame take each other's place; marks lie above them.
  function toggle(pane, key) {
    if (!there(key)) return;
    const on = pane.on.has(key);
    if (!titleOf.get(key).mark) [...pane.on].filter((one) => !titleOf.get(one).mark).forEach((one) => pane.on.delete(one));
    if (on) pane.on.delete(key); else pane.on.add(key);
    refresh();
  }

  const visible = () => (state.side ? panes : panes.slice(0, 1));
  const active = (pane) => data.layers.map((layer) => layer.key).filter((key) => pane.on.has(key));
  const needed = (place) => new Set(["frame", ...visible().flatMap(active)].filter((key) => has(key, place)));

  // Showing a frame: all of its pictures at once, or still the frame before

  let asked = false;

  function ask() {
    if (!asked) {
      asked = true;
      requestAnimationFrame(() => { asked = false; attempt(); });
    }
  }

  function attempt() {
    if (!videos.has(state.video)) return;
    const place = state.place;
    const waited = [...needed(place)].map((key) => picture(source(key, place)));
    if (waited.every((one) => one.ready)) {
      visible().forEach((pane) => paint(pane, place));
      state.shown = place;
      byId("panes").removeAttribute("aria-busy");
      tell(place);
      preload(place);
    } else {
      byId("panes").setAttribute("aria-busy", "true");
      Promise.all(waited.map((one) => one.done)).then(() => { if (state.place === place) ask(); });
    }
  }

  function preload(place) {
    const last = data.videos[state.video].drawn - 1;
    for (let step = 1; step <= AHEAD; step++) {
      for (const next of step <= BEHIND ? [state.ahead * step, -state.ahead * step] : [state.ahead * step]) {
        const other = place + next;
        if (other >= 0 && other <= last) needed(other).forEach((key) => picture(source(key, other)));
      }
    }
    const later = Math.min(last, Math.max(0, place + state.ahead * data.chunk));
    loadChunk(state.video, later).catch(() => {});
  }

  function paint(pane, place) {
    const { canvas } = pane;
    const frame = has("frame", place) ? picture(source("frame", place)) : null;
    const layers = active(pane).filter((key) => has(key, place));
    const first = frame && !frame.broken ? frame : layers.map((key) => picture(source(key, place))).find((one) => !one.broken);
    if (!first) return;
    const width = first.image.naturalWidth, height = first.image.naturalHeight;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.globalAlpha = 1;
    context.clearRect(0, 0, width, height);
    context.imageSmoothingEnabled = true;
    if (frame && !frame.broken) context.drawImage(frame.image, 0, 0, width, height);
    for (const key of layers) {
      const one = picture(source(key, place));
      context.globalAlpha = titleOf.get(key).mark ? 0.9 : frame && !frame.broken ? byId("opacity").value / 100 : 1;
      context.imageSmoothingEnabled = key.startsWith("entropy");
      if (!one.broken) context.drawImage(one.image, 0, 0, width, height);
    }
    const words = layers.map((key) => titleOf.get(key).title).join(", ") || "no layers";
    canvas.setAttribute("aria-label", `frame ${videos.get(state.video).stems[place]}: ${words}`);
  }

  // Saying what is shown

  const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 2 : 1)} %`;

  function tell(place) {
    const facts = videos.get(state.video), last = facts.stems.length;
    const cursor = byId("cursor");
    if (cursor) cursor.style.left = `${100 * place / Math.max(1, last - 1)}%`;
    const frame = factsOf(state.video, place);
    const words = [`${facts.stems[place]} (${place + 1} of ${last})`, `${percent(facts.flicker[place])} flickers`];
    for (const layer of data.layers) {
      if (layer.mark && frame && layer.key in frame) words.push(`${percent(frame[layer.key])} ${layer.title}`);
    }
    byId("where").textContent = words.join(" · ");
    byId("place").setAttribute("aria-valuetext", words[0]);
    visible().forEach((pane) => list(pane, frame));
    if (!frame) {
      loadChunk(state.video, place).then(() => { if (state.shown === place) tell(place); }, (error) => {
        byId("where").textContent = error.message;
      });
    }
  }

  function list(pane, frame) {
    const entries = [];
    for (const key of active(pane)) {
      if (key.startsWith("entropy")) {
        entries.push(make("li", {}, "0", make("span", { class: "ramp" }), "1"));
      }
      for (const [index, share] of frame?.labels[key]?.shares ?? []) {
        const [name, colour] = data.classes[index];
        const swatch = make("span", { class: "swatch" });
        swatch.style.background = colour;
        entries.push(make("li", { "data-class": index }, swatch, name, make("span", { class: "share" }, percent(share))));
      }
    }
    pane.legend.replaceChildren(...entries);
  }

  function classAt(grid, x, y) {
    const [columns, rows, ...runs] = grid;
    let left = Math.min(rows - 1, Math.floor(y * rows)) * columns + Math.min(columns - 1, Math.floor(x * columns));
    for (let index = 0; index < runs.length; index += 2) {
      if (left < runs[index + 1]) return runs[index];
      left -= runs[index + 1];
    }
    return NONE;
  }

  function point(pane, event) {
    const frame = factsOf(state.video, state.shown), bounds = pane.canvas.getBoundingClientRect();
    if (!frame || !bounds.width) return;
    const x = (event.clientX - bounds.left) / bounds.width, y = (event.clientY - bounds.top) / bounds.height;
    if (x < 0 || y < 0 || x >= 1 || y >= 1) return;
    const words = [];
    for (const layer of data.layers.filter((one) => one.key in frame.labels)) {
      const index = classAt(frame.labels[layer.key].grid, x, y);
      words.push(`${layer.title}: ${index === NONE ? "none" : data.classes[index][0]}`);
      visible().filter((one) => one.on.has(layer.key)).forEach((one) => {
        for (const entry of one.legend.children) entry.classList.toggle("here", entry.dataset.class === String(index));
      });
    }
    byId("pointer").textContent = `here – ${words.join("; ")}`;
  }

  function unpoint() {
    byId("pointer").textContent = "";
    for (const entry of document.querySelectorAll(".legend .here")) entry.classList.remove("here");
  }

  // Moving

  function go(place) {
    const last = data.videos[state.video].drawn - 1, next = Math.min(last, Math.max(0, place));
    if (next !== state.place) state.ahead = next > state.place ? 1 : -1;
    state.place = next;
    byId("place").value = next;
    ask();
  }

  function refresh() {
    visible().forEach((pane) => {
      for (const button of pane.layers.children) {
        button.setAttribute("aria-pressed", pane.on.has(button.dataset.layer));
        button.disabled = !there(button.dataset.layer);
      }
    });
    ask();
  }

  function openSide(side) {
    state.side = side;
    byId("side").checked = side;
    byId("panes").className = side ? "two" : "one";
    byId("panes").replaceChildren(...visible().map((pane) => pane.box));
    if (!side) use(0);
    refresh();
  }

  function openVideo(number) {
    state.video = number;
    state.shown = -1;
    state.place = 0;
    state.ahead = 1;
    byId("video").value = number;
    byId("place").max = data.videos[number].drawn - 1;
    byId("place").value = 0;
    load(`videos/${pad(number, 4)}.js`).then(() => {
      if (state.video !== number) return;
      drawTrack();
      refresh();  // the first frame, or one that was chosen meanwhile
    }, (error) => { byId("where").textContent = error.message; });
  }

  let timer = 0;

  function play(on) {
    state.playing = on;
    byId("play").setAttribute("aria-pressed", on);
    byId("play").textContent = on ? "stop" : "play";
    clearInterval(timer);
    if (!on) return;
    if (state.place === data.videos[state.video].drawn - 1) go(0);
    timer = setInterval(() => {
      if (state.place === data.videos[state.video].drawn - 1) play(false);
      else if (state.shown === state.place) go(state.place + 1);
    }, 1000 / PER_SECOND);
  }

  // The track: flicker by frame, and stretches

  function drawTrack() {
    const track = byId("track"), canvas = byId("flicker"), { stems, flicker } = videos.get(state.video);
    const bounds = track.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(bounds.width * ratio);
    canvas.height = Math.round(bounds.height * ratio);
    const context = canvas.getContext("2d"), top = Math.max(0.01, ...flicker);
    context.fillStyle = getComputedStyle(canvas).color;
    const step = canvas.width / stems.length;
    flicker.forEach((share, place) => {
      const height = canvas.height * share / top;
      context.fillRect(place * step, canvas.height - height, Math.max(1, step - 1), height);
    });
    track.replaceChildren(canvas);
    const places = new Map(stems.map((stem, place) => [stem, place])), buttons = [];
    const of = data.videos[state.video].stretches, several = Object.keys(of).length > 1;
    for (const [key, stretches] of Object.entries(of)) {
      for (const one of stretches) {
        const [first, last] = [nearest(places, stems, one.first), nearest(places, stems, one.last)];
        const span = make("span", { class: `stretch ${several ? key : "alone"}` });
        span.style.left = `${100 * first / stems.length}%`;
        span.style.width = `${100 * (last + 1 - first) / stems.length}%`;
        const worst = `${one.by === "vc8" ? "VC8" : "flicker"} ${percent(one.worst)}`;
        span.title = `${several ? `${key.toUpperCase()} ` : ""}flickers from ${one.first} to ${one.last}: ${worst}`;
        const button = make("button", { type: "button", class: "link" });
        button.textContent = `${several ? `${key.toUpperCase()} ` : ""}${one.first}–${one.last} (${worst})`;
        button.addEventListener("click", () => go(first));
        track.append(span);
        buttons.push(button);
      }
    }
    track.append(make("span", { id: "cursor" }));
    byId("stretches").replaceChildren(...(buttons.length ? ["flickers: ", ...buttons] : []));
  }

  // A stretch may begin at a frame that was not drawn.
  function nearest(places, stems, stem) {
    if (places.has(stem)) return places.get(stem);
    const after = stems.findIndex((other) => other > stem);
    return after < 0 ? stems.length - 1 : Math.max(0, after - 1);
  }

  byId("track").addEventListener("click", (event) => {
    const bounds = byId("track").getBoundingClientRect();
    go(Math.round((event.clientX - bounds.left) / bounds.width * (data.videos[state.video].drawn - 1)));
  });
  byId("place").addEventListener("input", (event) => go(Number(event.target.value)));
  byId("video").addEventListener("change", (event) => { play(false); openVideo(Number(event.target.value)); });
  byId("opacity").addEventListener("input", ask);
  byId("side").addEventListener("change", (event) => openSide(event.target.checked));
  byId("back").addEventListener("click", () => go(state.place - 1));
  byId("on").addEventListener("click", () => go(state.place + 1));
  byId("play").addEventListener("click", () => play(!state.playing));
  window.addEventListener("resize", () => { if (videos.has(state.video)) { drawTrack(); ask(); } });
  for (const button of document.querySelectorAll("[data-video]")) {
    button.addEventListener("click", () => {
      play(false);
      openVideo(Number(button.dataset.video));
      byId("frames").scrollIntoView();
    });
  }

  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.matches("input[type=search], select, #opacity")) return;
    const step = event.shiftKey ? 10 : 1;
    const moves = {
      ArrowLeft: () => go(state.place - step),
      ArrowRight: () => go(state.place + step),
      Home: () => go(0),
      End: () => go(data.videos[state.video].drawn - 1),
      s: () => openSide(!state.side),
    };
    const scrolls = target.closest(".wide"); // a table may be scrolled by the same keys
    if (key in moves && !(scrolls && key !== "s")) moves[key]();
    else if (key === " " && !target.matches("button, a, summary, input[type=checkbox]")) play(!state.playing);
    else if (/^[1-9]$/.test(key) && data.layers[key - 1]) toggle(panes[state.used], data.layers[key - 1].key);
    else return;
    event.preventDefault();
  });

  // Tables: sorted by their heads, filtered by a word

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => sort(table, head, column));
    });
  }

  function sort(table, head, column) {
    const text = head.dataset.kind === "text";
    const down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : !text;
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => (text ? row.cells[column].textContent : row.cells[column].dataset.value);
    const order = (one, other) => {
      const [a, b] = [value(one), value(other)];
      if (text) return (down ? -1 : 1) * a.localeCompare(b);
      if (a === "" || b === "") return (a === "") - (b === ""); // what has no figure comes last
      return (down ? -1 : 1) * (a - b);
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
  }

  const filter = byId("filter"), occurring = byId("occurring");

  function choose() {
    const rows = [...byId("by-class").tBodies[0].rows], word = filter.value.trim().toLowerCase();
    for (const row of rows) {
      const named = row.cells[0].textContent.toLowerCase().includes(word);
      row.hidden = !named || (occurring.checked && row.dataset.occurs === "no");
    }
    byId("shown").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  }

  if (filter) {
    filter.addEventListener("input", choose);
    occurring.addEventListener("change", choose);
    choose();
  }

  openSide(false);
  openVideo(0);
})();
