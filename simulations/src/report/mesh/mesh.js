// Steps the picture of the mesh through time. Without it the page shows one moment.
(() => {
  const mesh = document.getElementById("mesh");
  const data = JSON.parse(mesh.querySelector("script[type='application/json']").textContent);
  const links = mesh.querySelectorAll(":scope > svg .links path");
  const [slider, play, output] = ["input", "button", "output"].map((name) => mesh.querySelector(name));
  const counts = mesh.querySelectorAll("b[data-state]");

  // Every frame whole: 200 frames of 5,000 links are a megabyte.
  const frames = [Uint8Array.from(data.first, Number)];
  for (const change of data.changes) {
    const next = frames[frames.length - 1].slice();
    for (let i = 0; i < change.length; i += 2) next[change[i]] = change[i + 1];
    frames.push(next);
  }

  let shown = null;
  const show = () => {
    const step = Number(slider.value), frame = frames[step], tally = new Array(10).fill(0);
    frame.forEach((state, link) => {
      tally[state] += 1;
      if (shown && shown[link] === state) return;
      for (const name of data.classes) links[link].classList.remove(name);
      links[link].classList.add(data.classes[state]);
    });
    shown = frame;
    output.textContent = data.moments[step];
    for (const count of counts) count.textContent = tally[count.dataset.state].toLocaleString("en");
    for (const cursor of document.querySelectorAll(".cursor")) {
      const [left, right] = [cursor.dataset.left, cursor.dataset.right].map(Number);
      cursor.setAttribute("transform", `translate(${left + data.shares[step] / 10000 * (right - left)} 0)`);
    }
  };

  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; play.textContent = "▶"; play.ariaLabel = "play"; };
  play.addEventListener("click", () => {
    if (timer) return stop();
    if (slider.value === slider.max) slider.value = 0;
    play.textContent = "❚❚";
    play.ariaLabel = "stop";
    timer = setInterval(() => {
      if (slider.value === slider.max) return stop();
      slider.value = Number(slider.value) + 1;
      show();
    }, 120);
  });
  slider.addEventListener("input", () => { stop(); show(); });

  // Point at a node, and its links stand out.
  const light = (node) => {
    mesh.classList.toggle("lit", node !== null);
    data.ends.forEach(([a, b], link) => links[link].classList.toggle("lit", node !== null && (a === node || b === node)));
  };
  for (const node of mesh.querySelectorAll("[data-node]")) {
    node.addEventListener("mouseenter", () => light(Number(node.dataset.node)));
    node.addEventListener("mouseleave", () => light(null));
  }
  // The plots over time follow further down in the page.
  document.addEventListener("DOMContentLoaded", show);
})();
