package api

import (
	"crypto/sha256"
	"embed"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/gorilla/mux"
)

// pagePolicy is the Content-Security-Policy of the page and its files. The page
// runs only its own scripts, and shows thumbnails that a script has fetched with
// a token (blob:), and placeholders (data:).
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

//go:embed page
var pageFS embed.FS

// pageFiles has the files of the folder page by name.
var pageFiles = readPageFiles()

// pageMediaTypes does not come from package mime, which reads the system's files.
var pageMediaTypes = map[string]string{
	".css": "text/css; charset=utf-8", ".html": "text/html; charset=utf-8",
	".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}

// pageFile is a file that the page consists of.
type pageFile struct {
	content   []byte
	mediaType string
	etag      string // quoted, a digest of the content
}

func readPageFiles() map[string]pageFile {
	entries, err := pageFS.ReadDir("page")
	if err != nil {
		panic(err) // the folder is embedded
	}
	files := map[string]pageFile{}
	for _, entry := range entries {
		content, err := pageFS.ReadFile("page/" + entry.Name())
		if err != nil {
			panic(err)
		}
		files[entry.Name()] = pageFile{
			content: content, mediaType: pageMediaTypes[path.Ext(entry.Name())],
			etag: fmt.Sprintf(`"%x"`, sha256.Sum256(content)),
		}
	}
	return files
}

// isPage is true for the page and its files, which have no data.
func isPage(r *http.Request) bool {
	return r.URL.Path == "/" || strings.HasPrefix(r.URL.Path, "/page/")
}

// showPage serves GET /.
func (s *Server) showPage(w http.ResponseWriter, r *http.Request) {
	writePageFile(w, r, pageFiles["index.html"])
}

// showPageFile serves GET /page/{file}.
func (s *Server) showPageFile(w http.ResponseWriter, r *http.Request) {
	file, ok := pageFiles[mux.Vars(r)["file"]]
	if !ok {
		writeError(w, http.StatusNotFound, "There is nothing at this path")
		return
	}
	writePageFile(w, r, file)
}

// writePageFile answers with the file, or with 304 if the client's copy is
// current. Browsers ask each time, because the paths do not change with the
// contents.
func writePageFile(w http.ResponseWriter, r *http.Request, file pageFile) {
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", file.etag)
	// Contains also finds one of several, and a tag that a proxy has made weak.
	if strings.Contains(r.Header.Get("If-None-Match"), file.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", file.mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(file.content)))
	_, _ = w.Write(file.content)
}
