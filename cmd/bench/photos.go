package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/davidbyttow/govips/v2/vips"
	"golang.org/x/sync/errgroup"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/samples"
	"github.com/photo-processor/photo-processor/internal/thumbnail"
)

// kind is the encoding of a photo.
type kind string

const (
	baseline    kind = "baseline JPEG"
	progressive kind = "progressive JPEG"
	png         kind = "PNG"
	webp        kind = "WebP"
)

var extensions = map[kind]string{baseline: "jpg", progressive: "jpg", png: "png", webp: "webp"}

// recipe describes one photo.
type recipe struct {
	kind          kind
	width, height int
	orientation   int // of EXIF; 0 is 1
}

// defaultRecipe has 30 photos of 6.4 megapixels on average. Photo i of a batch
// is number i modulo 30, so kinds and sizes are mixed.
var defaultRecipe = []recipe{
	{baseline, 4032, 3024, 6}, {baseline, 2048, 1536, 0}, {baseline, 3000, 2000, 0},
	{progressive, 3000, 2000, 0}, {baseline, 1920, 1080, 0}, {baseline, 3264, 2448, 0},
	{baseline, 2592, 1944, 0}, {png, 1920, 1080, 0}, {baseline, 2048, 1536, 0},
	{baseline, 4896, 3264, 0}, {baseline, 1200, 800, 0}, {baseline, 2000, 3000, 0},
	{webp, 2048, 1536, 0}, {baseline, 4032, 3024, 0}, {baseline, 1536, 2048, 0},
	{baseline, 2592, 1944, 0}, {baseline, 1920, 1080, 0}, {progressive, 4032, 3024, 0},
	{baseline, 3264, 2448, 0}, {baseline, 3000, 2000, 0}, {baseline, 6000, 4000, 0},
	{baseline, 2048, 1536, 0}, {png, 2400, 1600, 0}, {baseline, 2592, 1944, 0},
	{baseline, 3024, 4032, 6}, {baseline, 1080, 1920, 0}, {baseline, 3264, 2448, 0},
	{progressive, 2048, 1365, 0}, {baseline, 3000, 2000, 0}, {baseline, 2048, 1536, 0},
}

// Usual qualities of cameras and editors. libvips encodes from JPEGs of a much
// higher quality.
const (
	jpegQuality   = 88
	masterQuality = 97
	webpQuality   = 82
)

// recipeVersion must be increased when photos of the same recipe change.
const recipeVersion = 1

// name is the name of the file. Number i is also the seed of the landscape.
func (r recipe) name(i int) string {
	return fmt.Sprintf("%02d-%s-%dx%d.%s", i, strings.ReplaceAll(string(r.kind), " ", "-"), r.width, r.height, extensions[r.kind])
}

// make draws and encodes the photo with the number.
func (r recipe) make(i int) ([]byte, error) {
	var drawn bytes.Buffer
	quality := jpegQuality
	if r.kind != baseline {
		quality = masterQuality
	}
	if err := samples.WriteJPEG(&drawn, uint64(i), r.width, r.height, quality, max(r.orientation, 1)); err != nil || r.kind == baseline {
		return drawn.Bytes(), err
	}
	picture, err := vips.NewImageFromBuffer(drawn.Bytes())
	if err != nil {
		return nil, err
	}
	defer picture.Close()
	var encoded []byte
	switch r.kind {
	case progressive:
		encoded, _, err = picture.ExportJpeg(&vips.JpegExportParams{Quality: jpegQuality, Interlace: true, SubsampleMode: vips.VipsForeignSubsampleOn})
	case png:
		encoded, _, err = picture.ExportPng(&vips.PngExportParams{Compression: 6, Filter: vips.PngFilterAll})
	case webp:
		encoded, _, err = picture.ExportWebp(&vips.WebpExportParams{Quality: webpQuality, ReductionEffort: 4})
	}
	return encoded, err
}

// photoSet is the set of photos of a measurement.
type photoSet struct {
	recipe  []recipe
	paths   []string
	content [][]byte
}

// loadPhotos reads the photos from the cache directory, and adds missing ones. The
// name of their directory depends on everything that could change their bytes.
func loadPhotos(ctx context.Context, cache string, recipe []recipe, say func(string, ...any)) (*photoSet, error) {
	if err := thumbnail.Startup(); err != nil {
		return nil, err
	}
	digest := sha256.Sum256(fmt.Appendf(nil, "%d %s %s %s %+v", recipeVersion, runtime.Version(), runtime.GOARCH, vips.Version, recipe))
	dir := filepath.Join(cache, hex.EncodeToString(digest[:6]))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	set := &photoSet{recipe: recipe, content: make([][]byte, len(recipe))}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.NumCPU())
	for i, r := range recipe {
		path := filepath.Join(dir, r.name(i))
		set.paths = append(set.paths, path)
		group.Go(func() (err error) {
			if set.content[i], err = os.ReadFile(path); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			say("making %s …", r.name(i))
			if set.content[i], err = r.make(i); err != nil {
				return fmt.Errorf("%s: %w", r.name(i), err)
			}
			making := filepath.Join(dir, "making-"+r.name(i))
			if err := os.WriteFile(making, set.content[i], 0o644); err != nil {
				return err
			}
			return os.Rename(making, path)
		})
	}
	return set, group.Wait()
}

// facts describes the photos, for the report.
func (set *photoSet) facts() string {
	digest := sha256.New()
	count := map[kind]int{}
	var pixels, largest, size int
	for i, r := range set.recipe {
		count[r.kind]++
		pixels += r.width * r.height
		largest = max(largest, r.width*r.height)
		size += len(set.content[i])
		digest.Write(set.content[i])
	}
	var kinds []string
	for _, k := range []kind{baseline, progressive, png, webp} {
		if count[k] > 0 {
			kinds = append(kinds, fmt.Sprintf("%d %s", count[k], k))
		}
	}
	n := float64(len(set.recipe))
	return fmt.Sprintf("%d files (%s), %.1f MP and %.2f MB on average, the largest %.1f MP; drawn, not taken; "+
		"served under as many URLs as there are photos; SHA-256 %x…",
		len(set.recipe), strings.Join(kinds, ", "), float64(pixels)/n/1e6, float64(size)/n/1e6, float64(largest)/1e6, digest.Sum(nil)[:6])
}

// photoServer serves the photos from memory, on 127.0.0.1.
type photoServer struct {
	*http.Server
	base string
	set  *photoSet
	next atomic.Int64
}

func (set *photoSet) serve() (*photoServer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &photoServer{base: "http://" + listener.Addr().String(), set: set}
	mux := http.NewServeMux()
	for i, r := range set.recipe {
		mux.HandleFunc("GET /{number}/"+r.name(i), func(w http.ResponseWriter, req *http.Request) {
			http.ServeContent(w, req, r.name(i), time.Time{}, bytes.NewReader(set.content[i]))
		})
	}
	s.Server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.Serve(listener) }()
	return s, nil
}

// urls returns new URLs of the photos, in order.
func (s *photoServer) urls(n int) []string {
	urls := make([]string, n)
	for i := range urls {
		number := int(s.next.Add(1) - 1)
		file := number % len(s.set.recipe)
		urls[i] = fmt.Sprintf("%s/%d/%s", s.base, number, s.set.recipe[file].name(file))
	}
	return urls
}

// sizesText formats boxes for THUMBNAIL_SIZES.
func sizesText(boxes []photo.Box) string {
	var texts []string
	for _, box := range boxes {
		texts = append(texts, box.String())
	}
	return strings.Join(texts, ",")
}
