"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const place = document.getElementById("tokens");
  const tip = document.getElementById("tip");
  const number = new Intl.NumberFormat("en");
  const perToken = data.bits.length ? data.guesses.length / data.bits.length : 0;
  const spans = [];
  const firsts = []; // token each piece begins with
  const starts = []; // position of each token
  let current = null; // the piece whose tip is shown
  let anchor = 0; // the piece the tab key comes back to

  const heat = (bits) => data.limits.filter((limit) => bits >= limit).length;
  const lastOf = (piece) => (piece + 1 < firsts.length ? firsts[piece + 1] : data.bits.length);
  const element = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const percent = (tenthousandths) => (tenthousandths ? (tenthousandths / 100).toFixed(tenthousandths < 1000 ? 2 : 1) : "<0.01") + "%";

  // The text, in blocks of whole lines so that those out of sight cost nothing.
  let at = 0;
  for (const size of data.sizes) {
    starts.push(at);
    at += size;
  }
  let token = 0;
  let block = element("div");
  data.pieces.forEach((text, piece) => {
    firsts.push(token);
    const count = data.joined[piece] || 1;
    let bits = 0;
    for (let i = 0; i < count; i++) bits += data.bits[token++];
    const span = element("span", "h" + heat(bits / 100), text);
    span.tabIndex = -1;
    spans.push(span);
    block.append(span);
    if (block.childElementCount >= 200 && text.endsWith("\n")) {
      place.append(block);
      block = element("div");
    }
  });
  if (block.childElementCount) place.append(block);
  const pieceOf = new Map(spans.map((span, piece) => [span, piece]));
  if (spans.length) spans[0].tabIndex = 0;

  function describe(i) {
    const bits = data.bits[i] / 100;
    const chance = 2 ** -bits;
    const head = element("p", "cost");
    head.append(element("bdi", "", data.words[data.own[i]]), ` · ${bits.toFixed(2)} bits`);
    const odds = chance > 0.99 ? "all but certain" : `expected 1 in ${chance > 0.1 ? (1 / chance).toFixed(1) : number.format(Math.round(1 / chance))}`;
    const where = element("p", "", `${odds} · byte ${number.format(starts[i])}`);
    const list = element("ol");
    const add = (word, share) => {
      const item = element("li", word === data.own[i] ? "own" : "");
      const meter = element("span", "meter");
      const fill = element("i");
      fill.style.width = share / 100 + "%";
      meter.append(fill);
      const guess = element("span", "guess");
      guess.append(element("bdi", "", data.words[word]));
      item.append(guess, meter, element("span", "chance", percent(share)));
      list.append(item);
    };
    let seen = false;
    for (let k = i * perToken; k < (i + 1) * perToken; k++) {
      add(data.guesses[k], data.chances[k]);
      seen = seen || data.guesses[k] === data.own[i];
    }
    if (!seen) add(data.own[i], Math.round(chance * 10000));
    return [head, where, list];
  }

  function show(piece) {
    if (piece === current) return;
    hide();
    current = piece;
    for (let i = firsts[piece]; i < lastOf(piece); i++) tip.append(...describe(i));
    tip.hidden = false;
    spans[piece].setAttribute("aria-describedby", "tip");
    settle();
  }

  // Beside the piece, within the window's width, on the side with room.
  function settle() {
    if (current === null) return;
    const span = spans[current];
    const box = span.getClientRects()[0] || span.getBoundingClientRect();
    const wide = document.documentElement.clientWidth;
    const left = Math.max(8, Math.min(box.left, wide - tip.offsetWidth - 8));
    const below = box.bottom + 6 + tip.offsetHeight <= window.innerHeight || box.top < tip.offsetHeight + 6;
    tip.style.left = left + window.scrollX + "px";
    tip.style.top = (below ? box.bottom + 6 : box.top - tip.offsetHeight - 6) + window.scrollY + "px";
  }

  function hide() {
    if (current !== null) spans[current].removeAttribute("aria-describedby");
    current = null;
    tip.hidden = true;
    tip.replaceChildren();
  }

  function focus(piece) {
    spans[anchor].tabIndex = -1;
    anchor = piece;
    spans[piece].tabIndex = 0;
    spans[piece].focus();
    settle(); // it may have been scrolled to
  }

  // The nearest piece a line further up or down.
  function vertically(piece, step) {
    const from = spans[piece].getBoundingClientRect();
    let best = piece;
    let line = null;
    let distance = Infinity;
    for (let i = piece + step; i >= 0 && i < spans.length; i += step) {
      const box = spans[i].getClientRects()[0];
      if (!box || Math.abs(box.top - from.top) < from.height / 2) continue;
      if (line === null) line = box.top;
      if (Math.abs(box.top - line) > box.height / 2) break;
      if (Math.abs(box.left - from.left) < distance) {
        distance = Math.abs(box.left - from.left);
        best = i;
      }
    }
    return best;
  }

  // Scrolling moves tokens under a pointer that rests; only one that moves points at something.
  let rest = "";
  const spot = (event) => `${event.screenX} ${event.screenY}`;
  for (const kind of ["pointermove", "pointerdown"]) {
    document.addEventListener(kind, (event) => { rest = spot(event); }, { capture: true, passive: true });
  }
  place.addEventListener("pointerover", (event) => {
    if (event.pointerType === "touch" || spot(event) === rest) return;
    if (pieceOf.has(event.target)) show(pieceOf.get(event.target));
  });
  place.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "touch") return;
    const focused = pieceOf.get(document.activeElement);
    if (focused === undefined) hide();
    else show(focused);
  });
  place.addEventListener("click", (event) => {
    if (pieceOf.has(event.target)) focus(pieceOf.get(event.target));
  });
  place.addEventListener("focusin", (event) => {
    if (pieceOf.has(event.target)) show(pieceOf.get(event.target));
  });
  place.addEventListener("focusout", hide);
  place.addEventListener("keydown", (event) => {
    const piece = pieceOf.get(event.target);
    if (piece === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    const moves = {
      ArrowRight: () => piece + 1,
      ArrowLeft: () => piece - 1,
      ArrowDown: () => vertically(piece, 1),
      ArrowUp: () => vertically(piece, -1),
      Home: () => 0,
      End: () => spans.length - 1,
    };
    if (!moves[event.key]) return;
    event.preventDefault();
    focus(Math.max(0, Math.min(moves[event.key](), spans.length - 1)));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
  });
  window.addEventListener("resize", hide);
  // Blocks that come into sight get their true height, which moves what is below them.
  window.addEventListener("scroll", settle, { passive: true });
  new ResizeObserver(settle).observe(place);
  for (const button of document.querySelectorAll("button[data-token]")) {
    button.addEventListener("click", () => {
      const wanted = Number(button.dataset.token);
      let piece = 0;
      while (piece + 1 < firsts.length && firsts[piece + 1] <= wanted) piece++;
      spans[piece].scrollIntoView({ block: "center" });
      focus(piece);
    });
  }
})();
