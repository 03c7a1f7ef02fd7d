// Images for models that see: made small enough, shown with a text that says what they are. Loaded with the first image.

import { words } from "./strings.js";
import { picture } from "./view.js";

const LONGEST = 1568;
const MOST = 16;

function bitmap(file) {
  return new Promise((resolve, reject) => {
    const url = URL.createObjectURL(file);
    const image = new Image();
    image.onload = () => {
      URL.revokeObjectURL(url);
      resolve(image);
    };
    image.onerror = () => {
      URL.revokeObjectURL(url);
      reject(new Error(words.imageBad));
    };
    image.src = url;
  });
}

/** A file as `{data, type, alt}`: base64 without its prefix, at most 1568 pixels long. */
async function read(file) {
  const image = await bitmap(file);
  const scale = Math.min(1, LONGEST / Math.max(image.naturalWidth, image.naturalHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
  canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  const type = file.type === "image/png" && scale === 1 ? "image/png" : "image/jpeg";
  const data = canvas.toDataURL(type, 0.9).split(",")[1] ?? "";
  return { data, type, alt: file.name?.replace(/\.\w+$/, "") ?? "" };
}


/** Puts image files into the tray; what cannot be done is said. */
export async function add(tray, files) {
  const pictures = files.filter((file) => file.type.startsWith("image/"));
  if (!pictures.length) return;
  const why = tray.blind();
  if (why) tray.say(why);
  for (const file of pictures) {
    if (tray.images.length >= MOST) {
      tray.say(words.imageMany);
      break;
    }
    try {
      tray.images.push(await read(file));
    } catch (error) {
      tray.say(error.message);
    }
  }
  tray.draw();
}

/** The tray's images, each with a field for its text and a button that takes it out. */
export function draw(tray) {
  tray.box.replaceChildren(...tray.images.map((image, at) => {
    const alt = document.createElement("input");
    Object.assign(alt, { value: image.alt, placeholder: words.imageAlt });
    alt.setAttribute("aria-label", words.imageAlt);
    alt.addEventListener("input", () => (image.alt = alt.value));
    const remove = document.createElement("button");
    Object.assign(remove, { type: "button", textContent: "×" });
    remove.setAttribute("aria-label", words.removeImage);
    remove.addEventListener("click", () => {
      tray.images.splice(at, 1);
      tray.draw();
    });
    const item = document.createElement("li");
    item.append(picture(image), alt, remove);
    return item;
  }));
}
