package samples

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sync/singleflight"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// version names the directory below the cache's that the photos are kept in. It
// goes up with every change that makes them look different, so that nobody is
// shown those of an older build.
const version = "v1"

// Handler serves the Samples below /photos/ and every other landscape below
// /generated/, and keeps them in cacheDir, which it makes when it needs it.
func Handler(cacheDir string) http.Handler {
	return newHandler(newCache(filepath.Join(cacheDir, version)), Samples)
}

func newHandler(c *cache, samples []Sample) http.Handler {
	mux := http.NewServeMux()
	for _, s := range samples {
		mux.HandleFunc("GET /photos/"+s.Name, func(w http.ResponseWriter, r *http.Request) {
			if s.Forbidden {
				http.Error(w, "this photo is not for you", http.StatusForbidden)
				return
			}
			c.serve(w, r, s.Name, s.write)
		})
	}
	mux.HandleFunc("GET /generated/{seed}/{file}", c.generated)
	return mux
}

func (c *cache) generated(w http.ResponseWriter, r *http.Request) {
	text, ok := strings.CutSuffix(r.PathValue("file"), ".jpg")
	if !ok {
		http.NotFound(w, r)
		return
	}
	seed, err := strconv.ParseUint(r.PathValue("seed"), 10, 64)
	if err != nil {
		http.Error(w, "the seed must be a whole number from 0 to 2^64-1", http.StatusBadRequest)
		return
	}
	size, err := photo.ParseSize(text)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if size.Width > MaxSide || size.Height > MaxSide || size.Width*size.Height > MaxPixels {
		http.Error(w, fmt.Sprintf("size %s: at most %d pixels on a side, and %d in all", size, MaxSide, MaxPixels), http.StatusBadRequest)
		return
	}
	c.serve(w, r, fmt.Sprintf("%d-%s.jpg", seed, size), func(w io.Writer) error {
		return JPEG(w, seed, size.Width, size.Height, quality, 1)
	})
}

func (c *cache) serve(w http.ResponseWriter, r *http.Request, name string, write func(io.Writer) error) {
	file, err := c.open(r.Context(), name, write)
	if err != nil {
		if r.Context().Err() == nil {
			slog.ErrorContext(r.Context(), "cannot make a sample photo", "name", name, "error", err)
			http.Error(w, "the photo could not be made", http.StatusInternalServerError)
		}
		return
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		slog.ErrorContext(r.Context(), "cannot read a sample photo", "name", name, "error", err)
		http.Error(w, "the photo could not be read", http.StatusInternalServerError)
		return
	}
	// A name and a version stand for the same bytes wherever they were made.
	w.Header().Set("ETag", fmt.Sprintf(`"%s-%s-%x"`, version, name, info.Size()))
	http.ServeContent(w, r, name, info.ModTime(), file)
}

// cache keeps files that are made when they are first asked for.
type cache struct {
	dir    string
	flight singleflight.Group
	slots  chan struct{} // one for each file that is being made: drawing takes much memory
}

func newCache(dir string) *cache {
	return &cache{dir: dir, slots: make(chan struct{}, runtime.GOMAXPROCS(0))}
}

// open gives the file with a name. If there is none yet, write makes it: once, no
// matter how many ask. Whoever gives up waiting leaves the work to the others.
func (c *cache) open(ctx context.Context, name string, write func(io.Writer) error) (*os.File, error) {
	path := filepath.Join(c.dir, name)
	file, err := os.Open(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	made := c.flight.DoChan(name, func() (any, error) {
		c.slots <- struct{}{}
		defer func() { <-c.slots }()
		if _, err := os.Stat(path); err == nil {
			return nil, nil // an earlier flight ended while this one was about to start
		}
		return nil, c.create(path, write)
	})
	select {
	case result := <-made:
		if result.Err != nil {
			return nil, result.Err
		}
		return os.Open(path)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// create writes a file whole or not at all: under a temporary name, which it then
// changes.
func (c *cache) create(path string, write func(io.Writer) error) (err error) {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	file, err := os.CreateTemp(c.dir, ".making-*")
	if err != nil {
		return err
	}
	defer func() {
		file.Close()
		if err != nil {
			os.Remove(file.Name())
		}
	}()
	out := bufio.NewWriter(file)
	if err := write(out); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	// Without this a power cut can leave a name with nothing behind it.
	if err := file.Sync(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
