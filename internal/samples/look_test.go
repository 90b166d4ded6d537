package samples

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"os"
	"strconv"
	"testing"
	"time"
)

func TestLook(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("LOOK_N"))
	w, h := 1200, 800
	cols := 2
	tw := 800
	fmt.Sscanf(os.Getenv("LOOK_SIZE"), "%dx%d", &w, &h)
	if v, _ := strconv.Atoi(os.Getenv("LOOK_COLS")); v > 0 {
		cols = v
	}
	if v, _ := strconv.Atoi(os.Getenv("LOOK_TW")); v > 0 {
		tw = v
	}
	s0, _ := strconv.Atoi(os.Getenv("LOOK_S"))
	st, _ := strconv.Atoi(os.Getenv("LOOK_STEP"))
	if st == 0 {
		st = 1
	}
	th := tw * h / w
	sheet := image.NewRGBA(image.Rect(0, 0, cols*tw, (n+cols-1)/cols*th))
	for k := 0; k < n; k++ {
		s := s0 + k*st
		t0 := time.Now()
		m := Picture(uint64(s), w, h).(*image.RGBA)
		d := time.Since(t0)
		var b bytes.Buffer
		jpeg.Encode(&b, m, &jpeg.Options{Quality: 88})
		fmt.Println(s, d, time.Since(t0), b.Len(), float64(b.Len())/float64(w*h))
		os.WriteFile(fmt.Sprintf("/tmp/look/%d.jpg", s), b.Bytes(), 0644)
		if n == 1 {
			x0, y0 := w/4, h/5
			fmt.Sscanf(os.Getenv("LOOK_AT"), "%d,%d", &x0, &y0)
			f, _ := os.Create("/tmp/look/full.png")
			png.Encode(f, m.SubImage(image.Rect(x0, y0, x0+1400, y0+1000)))
			f.Close()
		}
		ox, oy := k%cols*tw, k/cols*th
		for y := 0; y < th; y++ {
			for x := 0; x < tw; x++ {
				x0, x1, y0, y1 := x*w/tw, max((x+1)*w/tw, x*w/tw+1), y*h/th, max((y+1)*h/th, y*h/th+1)
				var r, g, bb, c int
				for yy := y0; yy < y1; yy++ {
					for xx := x0; xx < x1; xx++ {
						o := m.PixOffset(xx, yy)
						r += int(m.Pix[o])
						g += int(m.Pix[o+1])
						bb += int(m.Pix[o+2])
						c++
					}
				}
				o := sheet.PixOffset(ox+x, oy+y)
				sheet.Pix[o], sheet.Pix[o+1], sheet.Pix[o+2], sheet.Pix[o+3] = uint8(r/c), uint8(g/c), uint8(bb/c), 255
			}
		}
	}
	f, _ := os.Create("/tmp/look/sheet.png")
	png.Encode(f, sheet)
	f.Close()
}
