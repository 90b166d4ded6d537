// The page at /: photos, batches, and what can be done with them. All URLs are
// relative, so that it works behind a path prefix. Texts of the API are set as
// textContent, never as HTML.
"use strict";

const pageSize = 60; // photos of one request
const maxCards = 1500; // with more cards, the list is read again when it is in view
const flushDelay = 100; // milliseconds that events are collected before the page changes
const silence = 45_000; // milliseconds without a byte, three comments, that end a stream
const rateWindow = 10_000; // milliseconds over which a batch's rate is measured
const announceEvery = 5_000; // milliseconds
const longestRetry = 15_000; // milliseconds

const statuses = ["pending", "processing", "completed", "failed"];

// advice says for each failure code what to do about it.
const advice = {
  invalid_url: "Add the photo again with a complete http or https URL.",
  source_blocked: "The URL leads to an address that is not public. If that is intended, allow its network with SOURCE_ALLOW_CIDRS.",
  source_not_found: "The source does not have the photo. Check the URL, or process it again once the photo is there.",
  source_forbidden: "The source denies access. Use a URL that needs no login, or a signed one that has not expired.",
  source_unavailable: "The source could not be reached several times. Process the photo again when the source works.",
  source_timeout: "The source was too slow several times. Process the photo again later, or raise SOURCE_TIMEOUT.",
  source_too_large: "The file has too many bytes. Use a smaller one, or raise SOURCE_MAX_BYTES.",
  image_too_large: "The picture has too many pixels or frames, or needs too much memory. Use a smaller one, or raise IMAGE_MAX_PIXELS.",
  unsupported_image: "Use a JPEG, PNG, WebP, GIF, TIFF, HEIC or AVIF picture. Check that the URL leads to a picture and not to a web page.",
  corrupt_image: "The file is damaged or cut short. Replace it at its source, then process the photo again.",
  render_crashed: "This picture crashed the renderer. Save it again with other software, and report the picture to the developers.",
  render_timeout: "Rendering took too long. Use a smaller picture, or raise RENDER_TIMEOUT.",
  canceled: "The workflow was canceled or terminated. Process the photo again if you still need it.",
  internal: "This is a defect of photo-processor. The worker's log has the details; process the photo again after a fix.",
};

// ---------------------------------------------------------------- small things

const $ = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const format = (n) => n.toLocaleString("en");
const capitalize = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const plural = (n, noun) => `${format(n)} ${noun}${n === 1 ? "" : "s"}`;

// element returns a new element with properties, data attributes and children.
function element(name, properties = {}, ...children) {
  const { data, ...rest } = properties;
  const created = Object.assign(document.createElement(name), rest);
  Object.assign(created.dataset, data);
  created.append(...children);
  return created;
}

// setText changes the text only if it differs, so that selections survive.
function setText(el, text) {
  if (el.textContent !== text) el.textContent = text;
}

// timeKey makes RFC 3339 times in UTC comparable as strings: servers leave out
// zeros at the end of a fraction.
function timeKey(time) {
  const [seconds, fraction = ""] = time.replace("Z", "").split(".");
  return `${seconds}.${fraction.padEnd(9, "0")}`;
}

const sortKey = (photo) => timeKey(photo.created_at) + photo.uuid;

function setTime(el, time) {
  el.dateTime = time;
  setText(el, new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" }));
}

// nameOf returns the file's name and the host of a photo's URL.
function nameOf(text) {
  let url;
  try {
    url = new URL(text);
  } catch {
    return { name: text, host: "" };
  }
  let name = url.pathname.split("/").filter(Boolean).pop() ?? "";
  try {
    name = decodeURIComponent(name);
  } catch { /* a % that escapes nothing: the name is shown as it is */ }
  return { name: name || url.host, host: url.host };
}

function formatDuration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.ceil(seconds))} s`;
  if (seconds < 3600) return `${Math.ceil(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min`;
  return `${Math.round(seconds / 86400)} days`;
}

let announcedAt = 0;
let announcement = 0; // timer

// announce has screen readers read a text, the last one of every few seconds.
function announce(text) {
  clearTimeout(announcement);
  announcement = setTimeout(() => {
    announcedAt = Date.now();
    setText($("announce"), text);
  }, Math.max(50, announcedAt + announceEvery - Date.now()));
}

// ----------------------------------------------------------------- requests

let token = sessionStorage.getItem("token") ?? "";
let tokenRequest = null; // promise of the open dialog

// APIError is an error that the user reads. status is 0 without a response.
class APIError extends Error {
  constructor(message, status = 0, body = null) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

// request sends a request with the token, and asks for the token if the API
// needs one. It throws an APIError unless the response is a success.
async function request(path, options = {}) {
  for (;;) {
    const sent = token;
    const headers = { ...options.headers };
    if (sent) headers.Authorization = `Bearer ${sent}`;
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new APIError("The API cannot be reached.");
    }
    if (response.status === 401) {
      if (sent === token) await askForToken(sent !== "");
      continue;
    }
    if (response.ok) return response;
    const body = await response.json().catch(() => null);
    throw new APIError(body?.message ?? `The API answered ${response.status}.`, response.status, body);
  }
}

const post = (path, body) => request(path, { method: "POST", body: body === undefined ? "" : JSON.stringify(body) });

// nextCursor returns the parameter "after" of the Link header, if there is one.
function nextCursor(response) {
  const target = /<([^>]*)>\s*;\s*rel="?next"?/.exec(response.headers.get("Link") ?? "")?.[1];
  return target ? new URL(target, location.href).searchParams.get("after") : null;
}

// askForToken resolves when the user has entered a token, and rejects if they
// have closed the dialog. Concurrent requests share the dialog.
function askForToken(refused) {
  tokenRequest ??= new Promise((resolve, reject) => {
    const dialog = $("token");
    setTokenError(refused ? "The API refused this token. Check it and try again." : "");
    $("token-input").value = "";
    let submitted = false;
    dialog.showModal();
    $("token-form").onsubmit = (event) => {
      event.preventDefault();
      const given = $("token-input").value.trim();
      if (!/^[\x21-\x7e]+$/.test(given)) {
        setTokenError("Enter the token, without spaces.");
        return;
      }
      token = given;
      submitted = true;
      sessionStorage.setItem("token", token);
      dialog.close();
    };
    dialog.onclose = () => {
      tokenRequest = null;
      if (submitted) resolve();
      else reject(new APIError("This API needs a token.", 401));
    };
  });
  return tokenRequest;
}

function setTokenError(text) {
  setText($("token-error"), text);
  $("token-input").setAttribute("aria-invalid", String(text !== ""));
}

// ------------------------------------------------------------------- location

let filter = { status: "", code: "" };
let openUUID = "";

// parseHash returns the filter and the UUID of the open photo of the URL.
function parseHash() {
  const hash = new URLSearchParams(location.hash.slice(1));
  const code = hash.get("code") ?? "";
  const status = code ? "failed" : hash.get("status") ?? "";
  return { filter: { status: statuses.includes(status) ? status : "", code }, photo: hash.get("photo") ?? "" };
}

function readHash() {
  const next = parseHash();
  if (next.filter.status !== filter.status || next.filter.code !== filter.code) {
    filter = next.filter;
    showSkeletons();
    renderCounts();
    loadPhotos();
  }
  if (next.photo !== openUUID) showDetail(next.photo);
}

function hashOf(next, uuid) {
  const hash = new URLSearchParams();
  if (next.status) hash.set("status", next.status);
  if (next.code) hash.set("code", next.code);
  if (uuid) hash.set("photo", uuid);
  return `#${hash}`;
}

function setHash(next, uuid = "") {
  location.hash = hashOf(next, uuid);
}

// --------------------------------------------------------------------- counts

let counts = null;

// countOf returns the number of photos that a filter matches, or null before
// the counts are there.
function countOf({ status, code }) {
  if (!counts) return null;
  if (code) return counts.failures[code] ?? 0;
  return status ? counts[status] : statuses.reduce((sum, each) => sum + counts[each], 0);
}

function renderCounts() {
  renderChips($("filters"), ["", ...statuses].map((status) => ({
    id: `filter-${status || "all"}`, label: capitalize(status || "all"), count: countOf({ status }),
    pressed: filter.status === status, next: { status, code: "" },
  })));
  const codes = new Set(Object.keys(counts?.failures ?? {}).sort());
  if (filter.code) codes.add(filter.code);
  renderChips($("codes"), [...codes].map((code) => ({
    id: `code-${code}`, label: code, count: countOf({ code }), pressed: filter.code === code,
    next: filter.code === code ? { status: "failed", code: "" } : { status: "failed", code },
  })));
  $("codes").hidden = codes.size === 0;
  renderActions();
  renderShown();
}

// renderChips updates filter buttons in place, so that the focus stays.
function renderChips(parent, chips) {
  const old = new Map([...parent.children].map((chip) => [chip.id, chip]));
  chips.forEach((wanted, i) => {
    let chip = old.get(wanted.id);
    old.delete(wanted.id);
    if (!chip) {
      chip = element("button", { type: "button", id: wanted.id, className: "chip" }, element("span"), " ", element("b"));
      parent.insertBefore(chip, parent.children[i] ?? null);
    }
    setText(chip.children[0], wanted.label);
    setText(chip.children[1], wanted.count === null ? "" : format(wanted.count));
    chip.setAttribute("aria-pressed", String(wanted.pressed));
    chip.onclick = () => setHash(wanted.next);
  });
  old.forEach((chip) => chip.remove());
}

function renderActions() {
  const pending = counts?.pending ?? 0;
  $("process-pending").hidden = pending === 0;
  setText($("process-pending"), `Process all pending (${format(pending)})`);
  const failed = countOf({ status: "failed", code: filter.code }) ?? 0;
  $("retry-failed").hidden = failed === 0;
  setText($("retry-failed"), filter.code ? `Retry ${filter.code} (${format(failed)})` : `Retry failed (${format(failed)})`);
}

// --------------------------------------------------------------------- photos

let cards = new Map(); // by UUID: photo, key, el
let order = []; // entries of cards, newest first
let cursor = null; // of the next page
let loadedOnce = false;
let loading = null; // AbortController of the list that is being read
let listFailed = false;

const matches = (photo) => (!filter.status || photo.status === filter.status) && (!filter.code || photo.failure?.code === filter.code);
const isNewer = (a, b) => timeKey(a.updated_at) >= timeKey(b.updated_at);

// loadPhotos reads the first page for the filter, and replaces the cards when
// it arrives. Events wait meanwhile, and are applied after it.
async function loadPhotos() {
  if (cards.size === 0) showSkeletons();
  cursor = null;
  const page = await loadPage(null);
  if (!page) return;
  clearCards();
  loadedOnce = true;
  page.forEach(putPhoto);
  finishPage();
  announce(cards.size > 0 ? `${$("shown").textContent} photos` : $("empty-text").textContent);
}

async function loadMore() {
  if (loading || !cursor) return;
  const page = await loadPage(cursor);
  if (!page) return;
  page.forEach(putPhoto);
  finishPage();
}

// loadPage reads a page of photos, or shows the error and returns null. A later
// call aborts it.
async function loadPage(after) {
  loading?.abort();
  const mine = loading = new AbortController();
  const query = new URLSearchParams({ limit: pageSize });
  if (filter.status) query.set("status", filter.status);
  if (filter.code) query.set("code", filter.code);
  if (after) query.set("after", after);
  setText($("list-error"), "");
  $("more").hidden = true;
  $("grid").ariaBusy = "true";
  try {
    const response = await request(`photos?${query}`, { signal: mine.signal });
    const page = await response.json();
    if (loading !== mine) return null;
    cursor = nextCursor(response);
    listFailed = false;
    return page;
  } catch (error) {
    if (loading !== mine) return null;
    showListError(error);
    return null;
  } finally {
    if (loading === mine) {
      loading = null;
      $("grid").ariaBusy = "false";
      scheduleFlush();
    }
  }
}

// showListError shows why photos could not be read, with a button to try again.
function showListError(error) {
  listFailed = true;
  $("grid").querySelectorAll(".skeleton").forEach((skeleton) => skeleton.remove());
  setText($("list-error"), `The photos could not be loaded. ${error.message}`);
  setText($("more"), "Try again");
  $("more").hidden = false;
  renderShown();
}

function finishPage() {
  setText($("more"), "Load more");
  $("more").hidden = !cursor;
  // The observer reports only changes: a button that is still in view is
  // observed anew.
  moreObserver.unobserve($("more"));
  moreObserver.observe($("more"));
  renderShown();
}

const moreObserver = new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting) && !listFailed) loadMore();
}, { rootMargin: "800px" });

function showSkeletons() {
  clearCards();
  $("empty").hidden = true;
  $("grid").append(...Array.from({ length: 12 }, () => element("div", { className: "skeleton", ariaHidden: "true" })));
  setText($("shown"), "");
}

function clearCards() {
  cards.forEach(({ el }) => dropImages(el));
  cards = new Map();
  order = [];
  $("grid").replaceChildren();
}

// renderShown shows how many photos there are, or why there are none.
function renderShown() {
  const all = countOf(filter);
  const loaded = loadedOnce && cards.size > 0;
  setText($("shown"), !loaded ? "" : all !== null && all > cards.size ? `${format(cards.size)} of ${format(all)}` : format(cards.size));
  const empty = loadedOnce && !loading && !listFailed && cards.size === 0 && !cursor;
  $("empty").hidden = !empty;
  if (!empty) return;
  if (filter.status) {
    setText($("empty-text"), filter.code ? `No photo failed with ${filter.code}.` : `No photo is ${filter.status}.`);
    setText($("empty-action"), "Show all photos");
    $("empty-action").onclick = () => setHash({ status: "", code: "" });
  } else {
    setText($("empty-text"), "There are no photos yet. Add the URLs of some, and their thumbnails appear here.");
    setText($("empty-action"), "Add photos");
    $("empty-action").onclick = () => {
      $("add").open = true;
      $("add-urls").focus();
    };
  }
}

// putPhoto inserts, updates or removes the card of a photo.
function putPhoto(photo) {
  const entry = cards.get(photo.uuid);
  if (entry) {
    if (!isNewer(photo, entry.photo)) return;
    if (!matches(photo)) {
      removeCard(entry);
      return;
    }
    updateCard(entry, photo);
    return;
  }
  if (!matches(photo)) return;
  const key = sortKey(photo);
  let low = 0, high = order.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (order[middle].key > key) low = middle + 1;
    else high = middle;
  }
  const created = { photo, key, el: newCard(photo) };
  updateCard(created, photo);
  $("grid").insertBefore(created.el, order[low]?.el ?? null);
  order.splice(low, 0, created);
  cards.set(photo.uuid, created);
}

function removeCard(entry) {
  const next = entry.el.nextElementSibling ?? entry.el.previousElementSibling ?? $("photos");
  if (entry.el === document.activeElement) next.focus({ preventScroll: true });
  dropImages(entry.el);
  entry.el.remove();
  order.splice(order.indexOf(entry), 1);
  cards.delete(entry.photo.uuid);
}

function newCard(photo) {
  const card = element("a", { className: "card", href: `#photo=${photo.uuid}`, data: { uuid: photo.uuid } },
    element("div", { className: "picture" }),
    element("div", { className: "about" },
      element("span", { className: "name" }), element("span", { className: "host" }), element("span", { className: "status" }), element("code")));
  card.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab
    event.preventDefault();
    setHash(filter, photo.uuid);
  });
  return card;
}

function updateCard(entry, photo) {
  const { el } = entry;
  entry.photo = photo;
  const { name, host } = nameOf(photo.url);
  const [picture, about] = el.children;
  const code = photo.failure?.code ?? "";
  el.dataset.status = photo.status;
  el.title = photo.url;
  el.ariaLabel = `${name}, ${photo.status}${code ? `: ${code}` : ""}`;
  setText(about.children[0], name);
  setText(about.children[1], host);
  setText(about.children[2], capitalize(photo.status));
  setText(about.children[3], code);
  about.children[3].hidden = !code;
  const thumbnail = photo.thumbnail;
  const shown = thumbnail?.url ?? photo.status;
  if (picture.dataset.shown === shown) return;
  picture.dataset.shown = shown;
  dropImages(picture);
  const texts = { pending: "Not processed yet", processing: "Processing…", completed: "No thumbnail", failed: "No thumbnail" };
  picture.replaceChildren(thumbnail ? newImage(thumbnail, photo) : texts[photo.status] ?? "");
}

// ----------------------------------------------------------------- thumbnails

// newImage returns a lazy picture. A browser cannot send a token for it, so
// with a token it is fetched when it comes into view and shown as blob.
function newImage(thumbnail, photo) {
  const image = element("img", { alt: `Thumbnail of ${nameOf(photo.url).name}`, width: thumbnail.width, height: thumbnail.height, loading: "lazy", decoding: "async" });
  image.onerror = () => failImage(image);
  if (photo.placeholder) showPlaceholder(image, photo.placeholder);
  const path = `thumbnails/${thumbnail.url.split("/").map(encodeURIComponent).join("/")}`;
  if (token) {
    image.path = path;
    imageObserver.observe(image);
  } else {
    image.src = path;
  }
  return image;
}

const imageObserver = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    imageObserver.unobserve(target);
    fetchImage(target);
  }
}, { rootMargin: "400px" });

async function fetchImage(image) {
  image.abort = new AbortController();
  try {
    const response = await request(image.path, { signal: image.abort.signal });
    const blob = await response.blob();
    if (image.abort.signal.aborted) return;
    image.blob = URL.createObjectURL(blob);
    image.src = image.blob;
  } catch (error) {
    if (error.name !== "AbortError") failImage(image);
  }
}

// failImage shows that a picture could not be loaded. The next update of its
// card loads it again.
function failImage(image) {
  image.parentElement?.removeAttribute("data-shown");
  image.replaceWith("No preview");
}

// dropImages frees the pictures below an element that is about to go.
function dropImages(parent) {
  for (const image of parent.querySelectorAll("img")) {
    imageObserver.unobserve(image);
    image.abort?.abort();
    image.onerror = null;
    if (image.blob) URL.revokeObjectURL(image.blob);
  }
}

// --------------------------------------------------------------------- detail

let detail = null;
let detailRunning = false; // a request for the detail
let detailAgain = false; // the photo has changed since that request

function showDetail(uuid) {
  const dialog = $("detail");
  openUUID = uuid;
  detail = null;
  if (!uuid) {
    if (dialog.open) dialog.close();
    return;
  }
  renderDetail();
  setMessage($("detail-message"), "");
  if (!dialog.open) dialog.showModal();
  loadDetail();
}

async function loadDetail() {
  if (detailRunning) {
    detailAgain = true;
    return;
  }
  detailRunning = true;
  const uuid = openUUID;
  try {
    const got = await (await request(`photos/${encodeURIComponent(uuid)}`)).json();
    if (uuid === openUUID) {
      detail = got;
      renderDetail();
    }
  } catch (error) {
    if (uuid === openUUID) {
      setMessage($("detail-message"), error.status === 404 ? "There is no such photo." : error.message, true);
      if (!detail) setText($("detail-status"), "Not available");
    }
  }
  detailRunning = false;
  if (openUUID && (detailAgain || uuid !== openUUID)) {
    detailAgain = false;
    loadDetail();
  }
}

// renderDetail shows the photo's detail, or what the list has of it until the
// detail is there.
function renderDetail() {
  const photo = detail ?? cards.get(openUUID)?.photo;
  setText($("detail-name"), photo ? nameOf(photo.url).name : "Photo");
  setText($("detail-status"), photo ? capitalize(photo.status) : "Loading");
  $("detail-status").dataset.status = photo?.status ?? "";
  setText($("detail-url"), photo?.url ?? "");
  setText($("detail-uuid"), openUUID);
  for (const [id, time] of [["detail-created", photo?.created_at], ["detail-updated", photo?.updated_at]]) {
    if (time) setTime($(id), time);
    else setText($(id), "");
  }
  const failure = photo?.failure;
  $("detail-failure").hidden = !failure;
  setText($("detail-code"), failure?.code ?? "");
  setText($("detail-failure-message"), failure?.message ?? "");
  setText($("detail-advice"), advice[failure?.code] ?? "");
  $("detail-delete").disabled = !photo;
  $("detail-process").disabled = !photo || photo.status === "processing";
  setText($("detail-process"), photo?.status === "pending" ? "Process" : "Process again");
  const workflow = detail?.workflow_url;
  $("detail-workflow").hidden = !/^https?:\/\//.test(workflow ?? "");
  if (workflow) $("detail-workflow").href = workflow;
  const thumbnails = detail?.thumbnails ?? [];
  const parent = $("detail-thumbnails");
  const shown = thumbnails.map((thumbnail) => thumbnail.url).join(" ");
  if (parent.dataset.shown === shown) return;
  parent.dataset.shown = shown;
  dropImages(parent);
  parent.replaceChildren(...thumbnails.map((thumbnail) => element("figure", {},
    newImage(thumbnail, detail), element("figcaption", {}, `${thumbnail.width} × ${thumbnail.height}`))));
}

function setMessage(el, text, failed = false) {
  el.classList.toggle("error", failed);
  setText(el, text);
}

// ------------------------------------------------------------------- batches

const recentBatches = 10;
let batches = new Map(); // by id: batch, samples, el
let followed = ""; // id of the batch whose progress is announced

const finishedOf = (batch) => batch.completed + batch.failed;

async function loadBatches() {
  const list = await (await request(`batches?limit=${recentBatches}`)).json();
  const ids = new Set(list.map((batch) => batch.id));
  batches.forEach((entry, id) => {
    if (ids.has(id)) return;
    entry.el.remove();
    batches.delete(id);
  });
  list.forEach(putBatch);
  renderBatches();
}

// putBatch keeps the batch, and a sample of its progress for its rate.
function putBatch(batch) {
  const entry = batches.get(batch.id) ?? { samples: [], el: newBatch(batch) };
  if (entry.batch?.done && !batch.done) return; // older
  entry.batch = batch;
  entry.samples.push({ time: Date.now(), finished: finishedOf(batch) });
  batches.set(batch.id, entry);
  if (!followed && !batch.done) followed = batch.id;
  if (batch.id !== followed) return;
  if (batch.total > 0) announce(`${finishedOf(batch)} of ${batch.total} done${batch.failed ? `, ${batch.failed} failed` : ""}`);
  if (batch.done) followed = "";
}

// rateOf returns photos per second over the last seconds, or 0.
function rateOf(entry, now) {
  const { samples } = entry;
  while (samples.length > 1 && samples[1].time <= now - rateWindow) samples.shift();
  const seconds = Math.min(rateWindow, now - samples[0].time) / 1000;
  return seconds < 1 ? 0 : (samples.at(-1).finished - samples[0].finished) / seconds;
}

// titleOf says in words which photos a batch has.
function titleOf(batch) {
  if (!batch.query) return "Posted photos";
  const query = new URLSearchParams(batch.query);
  let title = `${capitalize(query.get("status") ?? "selected")} photos`;
  if (query.get("code")) title += `: ${query.get("code")}`;
  if (query.get("limit")) title += `, at most ${query.get("limit")}`;
  if (query.get("created_before")) title += `, added before ${new Date(query.get("created_before")).toLocaleString()}`;
  return title;
}

function newBatch(batch) {
  const { id } = batch;
  const title = element("h3", { id: `batch-title-${id}` });
  const bar = element("progress", { max: 1 });
  bar.setAttribute("aria-labelledby", title.id);
  const cancel = element("button", { type: "button", className: "cancel", ariaLabel: "Cancel batch" }, "Cancel");
  cancel.onclick = () => cancelBatch(id, cancel);
  return element("article", { className: "batch", tabIndex: -1, data: { batch: id } },
    element("div", { className: "batch-head" }, title, element("small", { className: "state" })), bar,
    element("p", { className: "progress" }), element("p", { className: "failures" }),
    element("div", { className: "batch-foot" }, element("p", { className: "rate" }), cancel));
}

function renderBatches() {
  const sorted = [...batches.values()].sort((a, b) =>
    timeKey(a.batch.created_at) + a.batch.id < timeKey(b.batch.created_at) + b.batch.id ? 1 : -1);
  sorted.splice(recentBatches).forEach((entry) => {
    if (!entry.batch.done) {
      sorted.push(entry);
      return;
    }
    batches.delete(entry.batch.id);
    entry.el.remove();
  });
  // The newest three and those that are not done are in view, the others folded.
  const current = sorted.filter((entry, i) => i < 3 || !entry.batch.done);
  const earlier = sorted.filter((entry) => !current.includes(entry));
  placeBatches($("batch-list"), current);
  placeBatches($("earlier-list"), earlier);
  $("earlier").hidden = earlier.length === 0;
  setText($("earlier-title"), `Earlier (${earlier.length})`);
  $("batches").hidden = sorted.length === 0;
  sorted.forEach(renderBatch);
}

// placeBatches moves elements only if their place has changed: moving one loses
// the focus.
function placeBatches(parent, entries) {
  entries.forEach(({ el }, i) => {
    if (parent.children[i] !== el) parent.insertBefore(el, parent.children[i] ?? null);
  });
}

function renderBatch(entry) {
  const { batch, el } = entry;
  const part = (name) => el.querySelector(name);
  const finished = finishedOf(batch);
  const growing = !batch.done && !batch.canceled && Boolean(batch.query);
  el.toggleAttribute("data-done", batch.done);
  setText(part("h3"), titleOf(batch));
  setText(part(".state"), batch.canceled ? (batch.done ? "Canceled" : "Canceling") : batch.done ? "Done" : "Running");
  const bar = part("progress");
  if (batch.done || batch.total > 0) bar.value = batch.total ? finished / batch.total : 1;
  else bar.removeAttribute("value");
  const parts = [`${format(finished)} of ${format(batch.total)} done`];
  for (const status of ["pending", "processing"]) if (batch[status]) parts.push(`${format(batch[status])} ${status}`);
  if (batch.failed) parts.push(`${format(batch.failed)} failed`);
  setText(part(".progress"), batch.done && batch.total === 0 ? "No photo had to be processed" : parts.join(", "));
  setText(part(".failures"), Object.entries(batch.failures).map(([code, n]) => `${code} ${format(n)}`).join(", "));
  part(".failures").hidden = batch.failed === 0;
  setText(part(".rate"), batch.done ? doneText(batch) : rateText(entry));
  const cancel = part(".cancel");
  const canCancel = !batch.done && !batch.canceled && (growing || batch.pending > 0);
  if (!canCancel && cancel === document.activeElement) el.focus({ preventScroll: true });
  cancel.hidden = !canCancel;
}

function doneText(batch) {
  const created = new Date(batch.created_at);
  const started = created.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  return batch.done_at ? `${started}, took ${formatDuration((new Date(batch.done_at) - created) / 1000)}` : started;
}

function rateText(entry) {
  const rate = rateOf(entry, Date.now());
  if (rate <= 0) return "Waiting for progress";
  const shown = rate < 10 ? rate.toFixed(1) : format(Math.round(rate));
  return `${shown} photos/s, ${formatDuration((entry.batch.total - finishedOf(entry.batch)) / rate)} left`;
}

// Rates and times left change also while no event arrives.
setInterval(() => batches.forEach((entry) => entry.batch.done || renderBatch(entry)), 2000);

async function cancelBatch(id, button) {
  button.disabled = true;
  try {
    putBatch(await (await request(`batches/${id}`, { method: "DELETE" })).json());
    announce("The batch is canceled. Photos that were started are finished.");
    renderBatches();
  } catch (error) {
    setMessage($("action-message"), error.message, true);
  }
  button.disabled = false;
}

// follow shows a batch and announces its progress.
function follow(batch) {
  followed = batch.id;
  putBatch(batch);
  renderBatches();
}

// -------------------------------------------------------------------- actions

// act runs an action while its button is disabled, and shows its error.
async function act(button, message, action) {
  button.disabled = true;
  setMessage(message, "");
  try {
    await action();
  } catch (error) {
    setMessage(message, error.message, true);
  }
  button.disabled = false;
}

$("process-pending").onclick = () => act($("process-pending"), $("action-message"), async () => {
  follow(await (await post("photos/process?status=pending")).json());
});

$("retry-failed").onclick = () => act($("retry-failed"), $("action-message"), async () => {
  const query = new URLSearchParams({ status: "failed" });
  if (filter.code) query.set("code", filter.code);
  follow(await (await post(`photos/process?${query}`)).json());
});

$("detail-process").onclick = async () => {
  const uuid = openUUID;
  await act($("detail-process"), $("detail-message"), async () => {
    await post("photos/process", [uuid]);
    if (uuid === openUUID) setMessage($("detail-message"), "Queued. The status changes here.");
  });
  if (openUUID) loadDetail();
};

$("detail-delete").onclick = async () => {
  const uuid = openUUID;
  if (!confirm("Delete this photo and its thumbnails?")) return;
  await act($("detail-delete"), $("detail-message"), async () => {
    await request(`photos/${uuid}`, { method: "DELETE" });
    if (uuid === openUUID) $("detail").close();
    if (cards.has(uuid)) removeCard(cards.get(uuid));
    renderShown();
    await loadCounts();
  });
};

$("add-form").onsubmit = (event) => {
  event.preventDefault();
  addPhotos();
};

async function addPhotos() {
  const field = $("add-urls"), error = $("add-error");
  const lines = field.value.split("\n").map((line) => line.trim());
  const urls = lines.filter(Boolean);
  setText(error, "");
  field.removeAttribute("aria-invalid");
  if (urls.length === 0) {
    failAdd("Enter at least one URL.");
    return;
  }
  $("add-submit").disabled = true;
  try {
    const response = await post("photos?process=true", urls.map((url) => ({ url })));
    const added = await response.json();
    field.value = "";
    queuePhotos(added.map((photo) => ({ ...photo, updated_at: photo.created_at })));
    announce(`${plural(added.length, "photo")} added`);
    const id = (response.headers.get("Location") ?? "").split("/").pop();
    if (id) follow(await (await request(`batches/${id}`)).json());
    else if (added.length === 1) setHash(filter, added[0].uuid);
  } catch (failure) {
    if (failure.body?.photos) { // they are added, and only their start has failed
      queuePhotos(failure.body.photos.map((photo) => ({ ...photo, updated_at: photo.created_at })));
      field.value = "";
    }
    failAdd(failure.message);
  } finally {
    $("add-submit").disabled = false;
  }
}

// failAdd shows an error beside the field, and selects the line that it names.
function failAdd(message) {
  const field = $("add-urls");
  setText($("add-error"), message);
  field.setAttribute("aria-invalid", "true");
  field.focus();
  let wanted = Number(/^Photo (\d+)\b/.exec(message)?.[1] ?? 0), start = 0;
  for (const line of field.value.split("\n")) {
    if (line.trim() && --wanted === 0) field.setSelectionRange(start, start + line.length);
    start += line.length + 1;
  }
}

// --------------------------------------------------------------------- events

let queued = new Map(); // photos by UUID that have changed
let queuedBatches = new Map();
let flushTimer = 0;

function queuePhotos(photos) {
  for (const photo of photos) {
    const other = queued.get(photo.uuid);
    if (!other || isNewer(photo, other)) queued.set(photo.uuid, photo);
  }
  scheduleFlush();
}

// scheduleFlush applies the queued changes soon, many in one step.
function scheduleFlush() {
  flushTimer ||= setTimeout(flush, flushDelay);
}

function flush() {
  flushTimer = 0;
  if (queuedBatches.size > 0) {
    queuedBatches.forEach(putBatch);
    queuedBatches = new Map();
    renderBatches();
  }
  if (loading || !loadedOnce || listFailed && cards.size === 0) return; // again after the list
  const last = order.at(-1)?.key;
  for (const photo of queued.values()) {
    // A photo below the last page that was read comes with its page.
    if (!cards.has(photo.uuid) && cursor && last && sortKey(photo) < last) continue;
    putPhoto(photo);
  }
  if (queued.has(openUUID) && (!detail || timeKey(queued.get(openUUID).updated_at) > timeKey(detail.updated_at))) loadDetail();
  if (queued.size > 0) renderShown();
  queued = new Map();
  if (cards.size > maxCards && scrollY < innerHeight && !$("more").matches(":focus")) loadPhotos();
  else if (cards.size === 0 && cursor) loadMore();
}

// handleEvent applies one server-sent event.
function handleEvent(name, data) {
  switch (name) {
    case "photos":
      queuePhotos(JSON.parse(data));
      break;
    case "batches":
      JSON.parse(data).forEach((batch) => queuedBatches.set(batch.id, batch));
      scheduleFlush();
      break;
    case "counts":
      counts = JSON.parse(data);
      renderCounts();
      break;
    case "reset":
      loadAll();
      break;
  }
}

async function loadCounts() {
  counts = await (await request("photos/counts")).json();
  renderCounts();
}

// loadAll reads the lists and counts. The photos show their own error.
async function loadAll() {
  const results = await Promise.allSettled([loadCounts(), loadBatches(), loadPhotos()]);
  const failed = results.find((result) => result.status === "rejected");
  if (failed && !listFailed) setMessage($("action-message"), failed.reason.message, true);
  else if (!failed) setMessage($("action-message"), "");
  if (openUUID) loadDetail();
}

let lastEventID = "";
let wake = () => {}; // ends the wait before the next connection

function setConnection(state) {
  const el = $("connection");
  el.dataset.state = state;
  setText(el, capitalize(state));
  $("offline").hidden = state !== "offline";
}

// watch keeps a stream of events open, and reads the lists once it is: no
// change between the two is lost.
async function watch() {
  let started = false;
  for (let failures = 0; ; failures++) {
    if (failures === 0) setConnection("connecting");
    const abort = new AbortController();
    let needsToken = false;
    try {
      let timer = 0;
      const alive = () => {
        clearTimeout(timer);
        timer = setTimeout(() => tokenRequest ? alive() : abort.abort(), silence);
      };
      alive();
      try {
        const response = await request("events", {
          headers: lastEventID ? { "Last-Event-ID": lastEventID } : {}, cache: "no-store", signal: abort.signal,
        });
        alive();
        setConnection("live");
        failures = -1; // the next attempt is the first again
        if (!started || !lastEventID || listFailed) loadAll();
        else cards.forEach((entry) => updateCard(entry, entry.photo)); // pictures that failed meanwhile
        started = true;
        await readEvents(response.body, alive);
      } finally {
        clearTimeout(timer);
      }
    } catch (error) {
      needsToken = error.status === 401;
      if (failures >= 0) setConnection("offline");
      if (needsToken) {
        $("offline").hidden = true; // the list shows the reason
        showListError(error);
      }
    }
    if (!started && !needsToken) {
      started = true;
      loadAll(); // the lists may work without the stream
    }
    const delay = Math.min(longestRetry, 1000 * 2 ** Math.max(0, failures)) * (0.5 + Math.random() / 2);
    const woken = new Promise((resolve) => { wake = resolve; });
    await (needsToken ? woken : Promise.race([woken, sleep(delay)]));
  }
}

// readEvents parses server-sent events until the stream ends.
async function readEvents(body, alive) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", name = "", data = [], id = lastEventID;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    alive();
    // A \r at the end may be the first half of \r\n.
    const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        lastEventID = id;
        if (data.length > 0) handleEvent(name || "message", data.join("\n"));
        else if (name === "reset") loadAll();
        name = "";
        data = [];
        continue;
      }
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const text = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "event") name = text;
      else if (field === "data") data.push(text);
      else if (field === "id" && !text.includes("\0")) id = text;
    }
  }
}

// ---------------------------------------------------------------------- start

$("more").onclick = () => {
  if (!listFailed) loadMore();
  else if (cards.size > 0 && cursor) loadMore();
  else loadAll();
  wake();
};
$("reconnect").onclick = () => wake();
addEventListener("online", () => wake());
addEventListener("hashchange", readHash);
$("skip").onclick = (event) => {
  event.preventDefault();
  $("photos").focus();
};
$("detail-close").onclick = () => $("detail").close();
$("detail").addEventListener("close", () => {
  if (openUUID) setHash(filter);
  // The card that had the focus may be gone.
  if (document.activeElement === document.body) $("photos").focus({ preventScroll: true });
});
$("detail").addEventListener("click", (event) => {
  if (event.target === $("detail")) { // the backdrop, or the padding
    const box = $("detail").getBoundingClientRect();
    const inside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
    if (!inside) $("detail").close();
  }
});

({ filter, photo: openUUID } = parseHash());
renderCounts();
showSkeletons();
watch(); // reads the lists, too
if (openUUID) showDetail(openUUID);
