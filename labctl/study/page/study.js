// The page of a study. It knows what is asked and never what is right; the server keeps each answer before the next
// question comes. The code in the address says who takes part: a reload goes on, and two windows do not mix.
"use strict";

const $ = (id) => document.getElementById(id);
const BLANK_MS = 350; // between two questions, so that a new picture is seen as new
const RETRY_MS = 1500;
const SCREENS = ["consent", "intro", "ask", "pause", "end"];

let about = null;
let state = null;
let shownAt = null; // performance.now() of the question in sight; null while no answer is taken
let interrupted = false; // the time of this question is no response time
let stopped = false;

// What the server is asked

async function ask(path, sent) {
  const how = sent === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(sent),
  };
  const reply = await fetch(path, { cache: "no-store", ...how });
  const value = await reply.json();
  if (!reply.ok) throw Object.assign(new Error(value.error), { status: reply.status });
  return value;
}

// Asks again until the server answers: an answer is not given up because a server was started anew.
async function insist(path, sent) {
  for (;;) {
    try {
      const value = await ask(path, sent);
      $("trouble").hidden = true;
      return value;
    } catch (error) {
      if (error.status !== undefined && error.status < 500) throw error;
      trouble("The study does not answer. Your answers so far are kept; this page tries again by itself.");
      await wait(RETRY_MS);
    }
  }
}

const wait = (ms) => new Promise((done) => setTimeout(done, ms));

function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = false;
}

// Screens

function show(name, focus) {
  for (const one of SCREENS) $(one).hidden = one !== name;
  const takesPart = state !== null && state.phase !== "done" && name !== "end";
  $("stop").hidden = state === null || stopped;
  $("stop").textContent = takesPart ? "Stop" : "Delete my answers";
  $("bar").hidden = !takesPart || name === "intro";
  if (!takesPart) $("place").textContent = "";
  window.scrollTo(0, 0);
  if (focus) $(focus).focus();
}

function element(kind, text) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  return made;
}

function showConsent() {
  let first = true;
  $("text").replaceChildren(...about.consent.map(({ kind, lines }) => {
    if (kind === "list") {
      const list = element("ul");
      list.append(...lines.map((line) => element("li", line)));
      return list;
    }
    if (kind === "paragraph") return element("p", lines[0]);
    const heading = element(first ? "h1" : "h2", lines[0]);
    first = false;
    return heading;
  }));
  const practice = about.practice ? ` after ${about.practice} for practice` : "";
  $("length").textContent = `${about.trials} pictures${practice}, about ${about.minutes} minutes.`;
  show("consent");
}

function showIntro() {
  const begun = state.number > 0;
  const keys = state.choices === 10 ? "1 to 9 and 0" : `1 to ${state.choices}`;
  $("intro-title").textContent = begun ? "Welcome back" : "How it works";
  $("code").textContent = state.code;
  const lines = [
    "Above you see one picture from the camera, below it sharp pictures.",
    `“${about.question}” Click the one that fits, or press its number: ${keys}.`,
    "The sharp picture is another one, taken at another moment. If you cannot tell, guess.",
  ];
  if (!begun && state.practice) lines.push(`The first ${state.practice} are for practice: you are told what was right.`);
  if (begun && state.phase !== "practice") lines.push(`${state.trials_done} of ${state.trials} are done.`);
  $("how").replaceChildren(...lines.map((line) => element("li", line)));
  $("start").textContent = begun ? "Go on" : "Start";
  show("intro", "start");
}

function showEnd(title, text) {
  $("end-title").textContent = title;
  $("end-text").textContent = text;
  show("end", "end-title");
}

function showPlace() {
  const practice = state.phase === "practice";
  const number = practice ? state.number + 1 : state.trials_done + 1;
  const total = practice ? state.practice : state.trials;
  $("place").textContent = `${practice ? "Practice" : "Picture"} ${number} of ${total}`;
  $("bar").max = total;
  $("bar").value = number - 1;
}

// Goes to whatever comes next
async function goOn({ rested = false } = {}) {
  if (stopped) return;
  if (state.phase === "done") {
    showEnd("Thank you!", `All is done, and all your answers are kept. Your code is ${state.code}. You may close this page.`);
  } else if (state.break && !rested) {
    $("pause-text").textContent = `${state.trials_done} of ${state.trials} pictures are done.`;
    $("bar").max = state.trials;
    $("bar").value = state.trials_done;
    $("place").textContent = "";
    show("pause", "on");
  } else {
    await showQuestion();
  }
}

// One question

async function showQuestion() {
  const number = state.number;
  shownAt = null;
  $("ask").classList.add("blank");
  $("said").textContent = "";
  $("next").hidden = true;
  $("question").textContent = about.question;
  showPlace();
  const many = state.choices > 5;
  $("ask").classList.toggle("many", many);
  layOut();
  show("ask");
  const where = `/picture/${state.code}/${number}`;
  const buttons = [];
  for (let place = 0; place < state.choices; place += 1) buttons.push(choiceButton(place));
  $("choices").replaceChildren(...buttons);
  const pictures = [$("frame"), ...buttons.map((button) => button.querySelector("img"))];
  const sources = ["frame", ...buttons.map((_, place) => place)];
  const blank = wait(BLANK_MS);
  await Promise.all(pictures.map((picture, index) => load(picture, `${where}/${sources[index]}.png`)));
  if (state.number !== number) { // it was answered elsewhere, in another window with this code
    await goOn();
    return;
  }
  $("ask").style.setProperty("--aspect", `${$("frame").naturalWidth} / ${$("frame").naturalHeight}`);
  await blank;
  if (stopped || state.number !== number) return;
  $("ask").classList.remove("blank");
  requestAnimationFrame(() => requestAnimationFrame(() => { // the second one: the pictures are on the screen now
    if (document.hidden) interrupted = true;
    shownAt = performance.now();
    for (const button of buttons) button.disabled = false;
    $("ask").dataset.ready = String(number);
  }));
}

function layOut() {
  const narrow = window.matchMedia("(max-width: 640px)").matches;
  const columns = narrow ? [2, 2, 3, 4][Math.ceil(state.choices / 3) - 1] : Math.min(state.choices, 5);
  $("ask").style.setProperty("--columns", columns);
  $("ask").style.setProperty("--rows", Math.ceil(state.choices / columns));
}

function choiceButton(place) {
  const button = element("button");
  button.type = "button";
  button.disabled = true;
  const key = String((place + 1) % 10);
  const name = state.names ? state.names[place] : null;
  const picture = element("img");
  picture.alt = "";
  picture.draggable = false;
  button.setAttribute("aria-label", name ? `${key}: ${name}` : `Picture ${key}`);
  button.setAttribute("aria-keyshortcuts", key);
  button.append(picture, element("kbd", key));
  if (name) button.append(Object.assign(element("span", name), { className: "name" }));
  button.addEventListener("click", () => choose(place));
  return button;
}

async function load(picture, source) {
  for (const number = state.number; state.number === number;) {
    picture.src = source;
    try {
      await picture.decode();
      $("trouble").hidden = true;
      return;
    } catch {
      if (stopped) return;
      picture.removeAttribute("src");
      state = await insist(`/api/state?code=${state.code}`);
      if (state.number !== number) return;
      trouble("A picture does not come. This page tries again by itself.");
      await wait(RETRY_MS);
    }
  }
}

async function choose(place) {
  if (shownAt === null || stopped || $("sure").open) return;
  const response = performance.now() - shownAt;
  shownAt = null;
  const buttons = [...$("choices").children];
  for (const button of buttons) button.disabled = true;
  buttons[place].classList.add("chosen");
  let told = null;
  try {
    told = await insist("/api/answer", {
      code: state.code, number: state.number, chosen: place, response_ms: response, interrupted,
    });
  } catch (error) {
    trouble(`This answer was not taken (${error.message}). Load the page again to go on.`);
    return;
  }
  interrupted = false;
  state = told.state;
  if (stopped) return;
  if (told.feedback) showFeedback(told.feedback, buttons);
  else await goOn();
}

function showFeedback({ correct, right }, buttons) {
  buttons[right].classList.add("right");
  $("said").textContent = correct ? "That is right." : `It is ${(right + 1) % 10}.`;
  $("said").className = correct ? "good" : "bad";
  $("next").textContent = state.phase === "practice" ? "Next" : "To the study";
  $("next").hidden = false;
  $("next").focus();
}

// Beginning, going on, stopping

async function begin() {
  if (!$("agreed").checked) return;
  $("begin").disabled = true;
  state = await insist("/api/begin", { agreed: true });
  history.replaceState(null, "", `?code=${state.code}`);
  showIntro();
}

async function enter(code) {
  try {
    state = await insist(`/api/state?code=${encodeURIComponent(code)}`);
  } catch {
    state = null;
    showConsent();
    trouble(`Nobody has the code ${code}. Look at it again, or begin anew.`);
    return;
  }
  history.replaceState(null, "", `?code=${state.code}`);
  interrupted = true; // the question may have been seen before
  if (state.phase === "done") await goOn();
  else showIntro();
}

async function stop(erase) {
  $("sure").close();
  stopped = true;
  if (erase) {
    await insist("/api/withdraw", { code: state.code });
    history.replaceState(null, "", "/");
    showEnd("Your answers are deleted", "Thank you for having come this far. You may close this page.");
  } else {
    showEnd("Thank you!", `The answers you gave are kept. With your code ${state.code} you may go on later.`);
  }
}

$("agreed").addEventListener("change", () => { $("begin").disabled = !$("agreed").checked; });
$("begin").addEventListener("click", begin);
$("return").addEventListener("submit", (event) => {
  event.preventDefault();
  const code = $("known").value.trim().toUpperCase();
  $("trouble").hidden = true;
  if (code) enter(code);
});
$("start").addEventListener("click", () => goOn({ rested: true }));
$("on").addEventListener("click", () => goOn({ rested: true }));
$("next").addEventListener("click", () => goOn({ rested: true }));
$("stop").addEventListener("click", () => $("sure").showModal());
$("back").addEventListener("click", () => $("sure").close());
$("keep").addEventListener("click", () => stop(false));
$("erase").addEventListener("click", () => stop(true));
$("sure").addEventListener("close", () => { interrupted = true; });

document.addEventListener("visibilitychange", () => { if (document.hidden) interrupted = true; });
window.addEventListener("resize", () => { if (state && !$("ask").hidden) layOut(); });
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || $("ask").hidden || !/^[0-9]$/.test(event.key)) return;
  const place = event.key === "0" ? 9 : Number(event.key) - 1;
  if (state && place < $("choices").children.length) {
    event.preventDefault();
    choose(place);
  }
});

(async () => {
  about = await insist("/api/about");
  const code = new URLSearchParams(location.search).get("code");
  if (code) await enter(code.toUpperCase());
  else showConsent();
})();
