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
	{kind: baseline, width: 4032, height: 3024, orientation: 6},
	{kind: baseline, width: 2048, height: 1536},
	{kind: baseline, width: 3000, height: 2000},
	{kind: progressive, width: 3000, height: 2000},
	{kind: baseline, width: 1920, height: 1080},
	{kind: baseline, width: 3264, height: 2448},
	{kind: baseline, width: 2592, height: 1944},
	{kind: png, width: 1920, height: 1080},
	{kind: baseline, width: 2048, height: 1536},
	{kind: baseline, width: 4896, height: 3264},
	{kind: baseline, width: 1200, height: 800},
	{kind: baseline, width: 2000, height: 3000},
	{kind: webp, width: 2048, height: 1536},
	{kind: baseline, width: 4032, height: 3024},
	{kind: baseline, width: 1536, height: 2048},
	{kind: baseline, width: 2592, height: 1944},
	{kind: baseline, width: 1920, height: 1080},
	{kind: progressive, width: 4032, height: 3024},
	{kind: baseline, width: 3264, height: 2448},
	{kind: baseline, width: 3000, height: 2000},
	{kind: baseline, width: 6000, height: 4000},
	{kind: baseline, width: 2048, height: 1536},
	{kind: png, width: 2400, height: 1600},
	{kind: baseline, width: 2592, height: 1944},
	{kind: baseline, width: 3024, height: 4032, orientation: 6},
	{kind: baseline, width: 1080, height: 1920},
	{kind: baseline, width: 3264, height: 2448},
	{kind: progressive, width: 2048, height: 1365},
	{kind: baseline, width: 3000, height: 2000},
	{kind: baseline, width: 2048, height: 1536},
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
	dir     string
	recipe  []recipe
	content [][]byte
}

// loadPhotos reads the photos from the cache directory, and adds missing ones. The
// directory's name depends on everything that could change their bytes.
func loadPhotos(ctx context.Context, cache string, recipe []recipe, say func(string, ...any)) (*photoSet, error) {
	if err := thumbnail.Startup(); err != nil {
		return nil, err
	}
	digest := sha256.Sum256(fmt.Appendf(nil, "%d %s %s %s %+v", recipeVersion, runtime.Version(), runtime.GOARCH, vips.Version, recipe))
	set := &photoSet{dir: filepath.Join(cache, hex.EncodeToString(digest[:6])), recipe: recipe, content: make([][]byte, len(recipe))}
	if err := os.MkdirAll(set.dir, 0o755); err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.NumCPU())
	for i, r := range recipe {
		path := filepath.Join(set.dir, r.name(i))
		content, err := os.ReadFile(path)
		if err == nil {
			set.content[i] = content
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		group.Go(func() (err error) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			say("making %s …", r.name(i))
			if set.content[i], err = r.make(i); err != nil {
				return fmt.Errorf("%s: %w", r.name(i), err)
			}
			making := filepath.Join(set.dir, "making-"+r.name(i))
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
