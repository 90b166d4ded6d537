package samples

// mood has the properties of a landscape that depend on the time of day, the
// season and the weather.
type mood struct {
	zenith, middle, horizon rgb     // the sky, from top to bottom
	sun                     rgb     // the colour and intensity of its light
	ambient                 rgb     // diffuse light
	elevation               float32 // of the sun above the horizon, 0 to 1
	sunBehind               bool    // the sun is behind the camera, not in the picture
	glow                    float32 // brightness of the air around the sun
	haze                    float32 // how fast colours fade with distance

	clouds             float32 // part of the sky that they cover, 0 to 1
	cloudLit, cloudDim rgb

	grass, forest, rock, snow rgb
	snowline                  float32 // as a part of the highest peak's height; above 1: no snow
	wooded                    float32 // density of the trees on slopes, 0 to 1
	tufts                     float32 // density of the grass in front of the camera, 0 to 1
	flowers                   float32 // part of the blades that have one
	needles                   rgb     // of the firs near the camera

	water      rgb // the lake's own colour
	lake       bool
	stars      bool
	firsBeside bool // firs are at the sides of the picture
}

// moods are selected by the remainder of the seed.
var moods = []mood{
	{ // a clear day in the Alps
		zenith: hex(0x1d5fb4), middle: hex(0x5b9bdc), horizon: hex(0xc4def0),
		sun: rgb{1.9, 1.75, 1.5}, ambient: hex(0x8fb0d8).scale(0.55), elevation: 0.7, sunBehind: true, glow: 0.1, haze: 0.006,
		clouds: 0.45, cloudLit: rgb{1.5, 1.5, 1.5}, cloudDim: hex(0xa9bbd2),
		grass: hex(0x586a36), forest: hex(0x2f4f2a), rock: hex(0x857a6e), snow: rgb{0.95, 0.97, 1}, snowline: 0.42, wooded: 0.8, tufts: 0.9, flowers: 0.07, needles: hex(0x2c4a2a),
		water: hex(0x0c4a58), lake: true, firsBeside: true,
	},
	{ // sunset
		zenith: hex(0x2b3f78), middle: hex(0xd8765a), horizon: hex(0xffc070),
		sun: rgb{2.2, 1.1, 0.45}, ambient: hex(0x8878a8).scale(0.4), elevation: 0.38, glow: 0.9, haze: 0.02,
		clouds: 0.6, cloudLit: rgb{1.6, 0.62, 0.3}, cloudDim: hex(0x6a4a70),
		grass: hex(0x5a5a30), forest: hex(0x2a3524), rock: hex(0x7a6660), snow: rgb{0.9, 0.9, 0.95}, snowline: 0.8, wooded: 0.7, tufts: 0.8, needles: hex(0x1c2418),
		water: hex(0x1a2438), lake: true,
	},
	{ // a starry night
		zenith: hex(0x060b20), middle: hex(0x122350), horizon: hex(0x35609a),
		sun: rgb{0.26, 0.32, 0.46}, ambient: rgb{0.035, 0.055, 0.105}, elevation: 0.5, sunBehind: true, glow: 0.1, haze: 0.008,
		grass: hex(0x5a6f4a), forest: hex(0x22331f), rock: hex(0x77757a), snow: rgb{0.95, 0.97, 1}, snowline: 0.35, wooded: 0.8, tufts: 0.8, needles: hex(0x22331f),
		water: hex(0x050a18), lake: true, stars: true, firsBeside: true,
	},
	{ // an autumn afternoon
		zenith: hex(0x3a78b8), middle: hex(0x8fb8d8), horizon: hex(0xf4e2c0),
		sun: rgb{2.2, 1.6, 0.95}, ambient: hex(0x9aa0b8).scale(0.45), elevation: 0.4, sunBehind: true, glow: 0.2, haze: 0.008,
		clouds: 0.35, cloudLit: rgb{1.5, 1.35, 1.15}, cloudDim: hex(0xb4aab0),
		grass: hex(0xb08a38), forest: hex(0xb8641e), rock: hex(0x6c6668), snow: rgb{0.95, 0.95, 0.97}, snowline: 0.5, wooded: 1, tufts: 0.9, needles: hex(0x35502c),
		water: hex(0x1c3f48), lake: true, firsBeside: true,
	},
	{ // mist at dawn
		zenith: hex(0x6f8fc0), middle: hex(0xd8b4b8), horizon: hex(0xffdcb0),
		sun: rgb{1.7, 1.2, 0.85}, ambient: hex(0xa8a8c8).scale(0.5), elevation: 0.45, glow: 0.6, haze: 0.075,
		clouds: 0.3, cloudLit: rgb{1.4, 1.1, 0.95}, cloudDim: hex(0xc8a8b4),
		grass: hex(0x6a7a50), forest: hex(0x2f4438), rock: hex(0x7a7878), snow: rgb{0.95, 0.95, 1}, snowline: 1.1, wooded: 1, tufts: 0.9, flowers: 0.02, needles: hex(0x2f4438),
		water: hex(0x4a5f70), lake: true, firsBeside: true,
	},
	{ // a desert
		zenith: hex(0x2f74c0), middle: hex(0x7fb0dc), horizon: hex(0xf0e0cc),
		sun: rgb{2.3, 1.7, 1.1}, ambient: hex(0x90a0c0).scale(0.4), elevation: 0.08, sunBehind: true, glow: 0.2, haze: 0.009,
		clouds: 0.25, cloudLit: rgb{1.5, 1.45, 1.4}, cloudDim: hex(0xc0b8b8),
		grass: hex(0xe0a060), forest: hex(0x8a6a40), rock: hex(0xb45c34), snow: rgb{1, 1, 1}, snowline: 2,
	},
	{ // winter
		zenith: hex(0x5a88c0), middle: hex(0xa4c0dc), horizon: hex(0xf4e4dc),
		sun: rgb{1.6, 1.35, 1.1}, ambient: hex(0x90a8d8).scale(0.5), elevation: 0.3, sunBehind: true, glow: 0.3, haze: 0.014,
		clouds: 0.5, cloudLit: rgb{1.4, 1.3, 1.25}, cloudDim: hex(0xa8b4cc),
		grass: rgb{0.85, 0.88, 0.95}, forest: hex(0x3c4f4c), rock: hex(0x706c70), snow: rgb{0.95, 0.97, 1}, snowline: 0, wooded: 0.7, tufts: 0.06, needles: hex(0x3c4f4c),
		water: hex(0x1a3a50), lake: true, firsBeside: true,
	},
	{ // dusk
		zenith: hex(0x141c48), middle: hex(0x5868a8), horizon: hex(0xffb088),
		sun: rgb{1.1, 0.6, 0.45}, ambient: hex(0x6070a8).scale(0.4), elevation: 0.3, glow: 0.5, haze: 0.022,
		clouds: 0.5, cloudLit: rgb{1.3, 0.5, 0.42}, cloudDim: hex(0x4a3c70),
		grass: hex(0x4a4a50), forest: hex(0x1e2630), rock: hex(0x605868), snow: rgb{0.9, 0.9, 1}, snowline: 0.6, wooded: 0.8, tufts: 0.7, needles: hex(0x1e2630),
		water: hex(0x141a38), lake: true, stars: true,
	},
}
