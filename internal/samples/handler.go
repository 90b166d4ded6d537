package samples

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// cacheVersion is the name of the subdirectory that stores the photos. Increase
// it with every change of how they look, so that no photo of an older build is
// served.
const cacheVersion = "v1"

// Handler serves the Samples below /photos/ and the landscape of any seed below
// /generated/. It stores them in cacheDir, which it creates if needed.
func Handler(cacheDir string) http.Handler {
	return newHandler(newCache(filepath.Join(cacheDir, cacheVersion)), Samples)
}

func newHandler(c *cache, samples []Sample) http.Handler {
	h := &handler{c}
	mux := http.NewServeMux()
	for _, s := range samples {
		mux.HandleFunc("GET /photos/"+s.Name, func(w http.ResponseWriter, r *http.Request) {
			if s.Forbidden {
				http.Error(w, "this photo is not for you", http.StatusForbidden)
				return
			}
			h.serveFile(w, r, s.Name, s.write)
		})
	}
	mux.HandleFunc("GET /generated/{seed}/{file}", h.serveGenerated)
	return mux
}

type handler struct{ cache *cache }

func (h *handler) serveGenerated(w http.ResponseWriter, r *http.Request) {
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
	h.serveFile(w, r, fmt.Sprintf("%d-%s.jpg", seed, size), func(w io.Writer) error {
		return WriteJPEG(w, seed, size.Width, size.Height, quality, 1)
	})
}

// serveFile serves the file with a name. If it is not cached, write writes it.
func (h *handler) serveFile(w http.ResponseWriter, r *http.Request, name string, write func(io.Writer) error) {
	file, err := h.cache.open(r.Context(), name, write)
	if err != nil {
		if r.Context().Err() == nil {
			slog.ErrorContext(r.Context(), "cannot draw or store a sample photo; answering 500", "name", name, "error", err)
			http.Error(w, "the photo could not be made", http.StatusInternalServerError)
		}
		return
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		slog.ErrorContext(r.Context(), "cannot read a sample photo; answering 500", "name", name, "error", err)
		http.Error(w, "the photo could not be read", http.StatusInternalServerError)
		return
	}
	// The version and the name determine the bytes.
	w.Header().Set("ETag", fmt.Sprintf(`"%s-%s-%x"`, cacheVersion, name, info.Size()))
	http.ServeContent(w, r, name, info.ModTime(), file)
}
