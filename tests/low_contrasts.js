// Texts whose contrast (WCAG 2.2) to what is behind them is under 4.5, and how many were measured.
// Colours of any notation become bytes by being painted; backgrounds are stacked up to the page's.
const canvas = document.createElement("canvas");
canvas.width = canvas.height = 1;
const pen = canvas.getContext("2d", { willReadFrequently: true });
function bytes(colour) {
  pen.clearRect(0, 0, 1, 1);
  pen.fillStyle = colour;
  pen.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
}
const over = (front, back) => [0, 1, 2].map((i) => front[i] * front[3] + back[i] * (1 - front[3])).concat(1);
function luminance(colour) {
  const [r, g, b] = colour.slice(0, 3).map((byte) => {
    const part = byte / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function behind(element) {
  const layers = [];
  for (let each = element; each; each = each.parentElement) layers.push(bytes(getComputedStyle(each).backgroundColor));
  const night = getComputedStyle(document.documentElement).colorScheme.includes("dark")
    && matchMedia("(prefers-color-scheme: dark)").matches;
  return layers.reverse().reduce((back, front) => over(front, back), night ? [18, 18, 18, 1] : [255, 255, 255, 1]);
}
function opacity(element) {
  let product = 1;
  for (let each = element; each; each = each.parentElement) product *= getComputedStyle(each).opacity;
  return product;
}
const found = [];
function check(element, text, colour) {
  if (!text.trim() || element.closest(":disabled, .hidden, noscript, script, style, [hidden]")) return;
  const box = element.getBoundingClientRect();
  if (!box.width || !box.height || box.right < 0 || !element.checkVisibility({ visibilityProperty: true })) return;
  if (!opacity(element)) return;
  const back = behind(element);
  const ink = bytes(colour);
  ink[3] *= opacity(element);
  const [light, dark] = [luminance(over(ink, back)), luminance(back)].sort((a, b) => b - a);
  const ratio = (light + 0.05) / (dark + 0.05);
  checked += 1;
  if (ratio < 4.5) found.push(`${text.trim().slice(0, 40)}: ${ratio.toFixed(2)}, ${colour} on ${back.map(Math.round)}`);
}
let checked = 0;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  check(element, walker.currentNode.data, getComputedStyle(element).color);
}
for (const field of document.querySelectorAll("[placeholder]")) {
  check(field, field.placeholder, getComputedStyle(field, "::placeholder").color);
}
return [checked, found];
