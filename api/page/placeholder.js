// Placeholders: small blurred pictures, shown until a thumbnail is loaded.
"use strict";

// placeholderImage decodes a ThumbHash in base64, as https://evanw.github.io/thumbhash
// describes, and returns an ImageData whose longer side is 32 pixels.
function placeholderImage(base64) {
  const hash = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const head = hash[0] | hash[1] << 8 | hash[2] << 16;
  const head2 = hash[3] | hash[4] << 8;
  const hasAlpha = head >> 23 === 1;
  const isLandscape = head2 >> 15 === 1;
  const long = hasAlpha ? 5 : 7, short = Math.max(1, head2 & 7); // numbers of waves
  const [across, down] = isLandscape ? [long, short] : [short, long];

  // Each channel has an average and the amplitudes of waves, in 4 bits each.
  let nibble = hasAlpha ? 12 : 10;
  const channel = (average, scale, nx, ny) => {
    const waves = [];
    for (let y = 0; y < ny; y++) {
      for (let x = y ? 0 : 1; x * ny < nx * (ny - y); x++, nibble++) {
        waves.push({ x, y, amplitude: ((hash[nibble >> 1] >> (nibble & 1) * 4 & 15) / 7.5 - 1) * scale * 2 });
      }
    }
    return { average, waves };
  };
  const boost = 1.25; // quantization makes colours dull
  const light = channel((head & 63) / 63, (head >> 18 & 31) / 31, Math.max(3, across), Math.max(3, down));
  const yellowBlue = channel((head >> 6 & 63) / 31.5 - 1, (head2 >> 3 & 63) / 63 * boost, 3, 3);
  const redGreen = channel((head >> 12 & 63) / 31.5 - 1, (head2 >> 9 & 63) / 63 * boost, 3, 3);
  const alpha = hasAlpha ? channel((hash[5] & 15) / 15, (hash[5] >> 4) / 15, 5, 5) : { average: 1, waves: [] };

  const width = Math.max(1, Math.round(32 * Math.min(1, across / down)));
  const height = Math.max(1, Math.round(32 * Math.min(1, down / across)));
  const cosines = (size) => Array.from({ length: size }, (_, at) => Array.from({ length: 7 }, (_, n) => Math.cos(Math.PI / size * (at + 0.5) * n)));
  const columns = cosines(width), rows = cosines(height);
  const image = new ImageData(width, height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = ({ average, waves }) => waves.reduce((sum, wave) => sum + wave.amplitude * columns[x][wave.x] * rows[y][wave.y], average);
      const l = at(light), p = at(yellowBlue), q = at(redGreen);
      const blue = l - 2 / 3 * p;
      const red = (3 * l - blue + q) / 2;
      image.data.set([red, red - q, blue, at(alpha)].map((value) => value * 255), (y * width + x) * 4); // which clamps
    }
  }
  return image;
}

// showPlaceholder shows a placeholder behind the image until that is loaded.
function showPlaceholder(image, base64) {
  const canvas = document.createElement("canvas");
  const picture = placeholderImage(base64);
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.getContext("2d").putImageData(picture, 0, 0);
  image.style.background = `center / cover url(${canvas.toDataURL()})`;
  image.addEventListener("load", () => { image.style.background = ""; });
}
