package main_test

import (
	"fmt"
	"image"
	"image/color"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/devstack"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/samples"
)

// pageStack is a running stack, and a source of photos.
type pageStack struct {
	*program
	source  string      // URL of the source
	allowed atomic.Bool // whether the source answers paths below /locked/ with a picture
}

// startPageStack starts the stack with six pending photos, one of them
// forbidden. The source has pictures at /SEED/NAME and /locked/SEED/NAME.
func startPageStack(t *testing.T) *pageStack {
	t.Helper()
	s := &pageStack{program: build(t)}
	mux := http.NewServeMux()
	draw := func(w http.ResponseWriter, r *http.Request) {
		seed, err := strconv.ParseUint(r.PathValue("seed"), 10, 64)
		if err == nil {
			err = samples.WriteJPEG(w, seed, 640, 480, 80, 1)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
		}
	}
	mux.HandleFunc("GET /{seed}/{name}", draw)
	mux.HandleFunc("GET /locked/{seed}/{name}", func(w http.ResponseWriter, r *http.Request) {
		if !s.allowed.Load() {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		draw(w, r)
	})
	mux.HandleFunc("GET /forbidden.jpg", status(http.StatusForbidden))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.source = server.URL
	s.env = append(s.env, "SOURCE_ALLOW_CIDRS=127.0.0.1/32")
	t.Cleanup(func() { s.stop() })
	s.mustDev(t, "start")
	conn, err := pgx.Connect(t.Context(), s.variable(t, "DATABASE_URL"))
	require.NoError(t, err)
	defer conn.Close(t.Context())
	for _, path := range []string{"/21/mountains.jpg", "/22/sunset.jpg", "/23/stars.jpg", "/24/lake.jpg", "/25/meadow.jpg", "/forbidden.jpg"} {
		_, err := conn.Exec(t.Context(), `INSERT INTO photos (url) VALUES ($1)`, s.source+path)
		require.NoError(t, err)
	}
	return s
}

// addByForm adds the URLs with the page's form.
func addByForm(t *testing.T, p *tab, urls ...string) {
	t.Helper()
	if !evaluate[bool](t, p, `document.getElementById("add").open`) {
		p.click(t, "#add > summary")
	}
	p.sendKeys(t, "#add-urls", strings.Join(urls, "\n"))
	p.click(t, "#add-submit")
}

// card is an expression for the card of a photo, by the name in its URL.
func card(name string) string {
	return fmt.Sprintf(`[...document.querySelectorAll(".card")].find((card) => card.querySelector(".name").textContent === %q)`, name)
}

// clickCard opens a photo's detail.
func clickCard(t *testing.T, p *tab, name string) {
	t.Helper()
	p.wait(t, card(name)+` !== undefined`)
	p.click(t, fmt.Sprintf(`.card[data-uuid="%s"]`, evaluate[string](t, p, card(name)+`.dataset.uuid`)))
	p.waitText(t, "#detail[open] #detail-name", name)
}

// waitCompleted waits for the photo's card to have its thumbnail.
func waitCompleted(t *testing.T, p *tab, name string) {
	t.Helper()
	p.wait(t, card(name)+`?.dataset.status === "completed"`)
	// The browser loads a picture when it is in view.
	p.wait(t, fmt.Sprintf(`(() => { const el = %s; el.scrollIntoView({ block: "center" }); return el.querySelector("img")?.naturalWidth > 0; })()`, card(name)))
}

// newBatch waits for a batch that is newer than the one with the ID, and
// returns its ID.
func newBatch(t *testing.T, p *tab, last string) string {
	t.Helper()
	const newest = `document.querySelector("#batch-list .batch")?.dataset.batch`
	p.wait(t, fmt.Sprintf(`(%s ?? %q) !== %q`, newest, last, last))
	return evaluate[string](t, p, newest)
}

// detailClosed is an expression that is true when no photo's detail is open, also
// in the history.
const detailClosed = `!document.getElementById("detail").open && !location.hash.includes("photo=")`

func waitBatch(t *testing.T, p *tab, id, progress string) {
	t.Helper()
	p.waitText(t, fmt.Sprintf(`.batch[data-batch="%s"][data-done] .progress`, id), progress)
}

// gradient returns a picture whose colours change from corner to corner.
func gradient(width, height int, alpha uint8) image.Image {
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			img.SetRGBA(x, y, color.RGBA{uint8(255 * x / width), uint8(255 * y / height), uint8(255 - 255*x/width), alpha})
		}
	}
	return img
}

// startAPI starts another API of the stack, and returns its URL.
func (s *pageStack) startAPI(t *testing.T, variables ...string) string {
	t.Helper()
	port, err := devstack.FreePort()
	require.NoError(t, err)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	cmd := exec.Command(s.path, "api")
	cmd.Env = append(append(s.env, variables...), "HTTP_ADDR="+address, "METRICS_ADDR=", "TEMPORAL_CONFIG_FILE="+os.DevNull)
	for _, name := range []string{"DATABASE_URL", "TEMPORAL_ADDRESS"} {
		cmd.Env = append(cmd.Env, name+"="+s.variable(t, name))
	}
	output := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = io.Discard, output
	require.NoError(t, cmd.Start())
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-exited
		if t.Failed() {
			t.Log(output.String())
		}
	})
	require.Eventually(t, func() bool {
		resp, err := devstacktest.HTTPClient.Get("http://" + address + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, pageTimeout, 100*time.Millisecond)
	return "http://" + address
}
