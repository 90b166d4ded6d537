package main_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/client"
	"github.com/photo-processor/photo-processor/internal/photo"
)

var (
	hostile = flag.Int("hostile", 0, "hostile photos, and as many good ones, in TestHostileBatch; 0: each kind once that is not retried")
	verbose = flag.Bool("table", false, "print how each kind of hostile photo ended")
)

// kind is a kind of hostile photo, with its expected failure code.
type kind struct {
	name    string
	url     string // if not at the hostile server
	answer  http.HandlerFunc
	want    photo.Code // "" if it must be completed
	retried bool       // takes five attempts, which is minutes
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func content(bytes []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes) }
}

func redirect(url string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, url, http.StatusFound) }
}

// raw sends bytes instead of an HTTP response, and keeps the connection open until
// the client closes it.
func raw(answer string, drip byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = buffered.WriteString(answer)
		_ = buffered.Flush()
		for drip != 0 {
			if _, err := conn.Write([]byte{drip}); err != nil {
				return
			}
			_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)) // between two bytes
			if _, err := conn.Read(make([]byte, 1)); err != nil {
				if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
					return
				}
			}
		}
	}
}

func kinds(t *testing.T) []kind {
	t.Helper()
	good := goodJPEG(t, 0)
	var once sync.Map
	return []kind{
		{name: "404", answer: status(404), want: photo.SourceNotFound},
		{name: "410", answer: status(410), want: photo.SourceNotFound},
		{name: "401", answer: status(401), want: photo.SourceForbidden},
		{name: "403", answer: status(403), want: photo.SourceForbidden},
		{name: "500 once, then well", want: "", answer: func(w http.ResponseWriter, r *http.Request) {
			if _, again := once.LoadOrStore(r.URL.Path, true); !again {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			_, _ = w.Write(good)
		}},
		{name: "500", answer: status(500), want: photo.SourceUnavailable, retried: true},
		{name: "429 with Retry-After", want: photo.SourceUnavailable, retried: true, answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		}},
		{name: "closes mid-body", answer: raw("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc", 0), want: photo.SourceUnavailable, retried: true},
		{name: "drips headers", answer: raw("HTTP/1.1 200 OK\r\nX: ", 'x'), want: photo.SourceTimeout, retried: true},
		{name: "drips its body", answer: raw("HTTP/1.1 200 OK\r\n\r\n", 'x'), want: photo.SourceTimeout, retried: true},
		{name: "redirects in a loop", answer: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) },
			want: photo.SourceUnavailable, retried: true},
		{name: "redirects to cloud metadata", answer: redirect("http://169.254.169.254/latest/meta-data/"), want: photo.SourceBlocked},
		{name: "redirects to [::1]", answer: redirect("http://[::1]:7233/"), want: photo.SourceBlocked},
		{name: "redirects to a private network", answer: redirect("http://10.0.0.1/"), want: photo.SourceBlocked},
		{name: "redirects to a file", answer: redirect("file:///etc/passwd"), want: photo.SourceUnavailable, retried: true},
		{name: "at a private address", url: "http://192.168.1.1/x.jpg", want: photo.SourceBlocked},
		{name: "at an IPv4-mapped address", url: "http://[::ffff:10.0.0.1]/x.jpg", want: photo.SourceBlocked},
		{name: "no http", url: "ftp://photos.example/x.jpg", want: photo.InvalidURL},
		{name: "endless body", want: photo.SourceTooLarge, answer: func(w http.ResponseWriter, _ *http.Request) {
			for block := make([]byte, 1<<16); ; {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}},
		{name: "claims an exabyte", answer: raw("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000000\r\n\r\n", 0), want: photo.SourceTooLarge},
		{name: "gzip bomb", want: photo.SourceTooLarge, answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			zip := gzip.NewWriter(w)
			for block := make([]byte, 1<<20); ; {
				if _, err := zip.Write(block); err != nil {
					return
				}
			}
		}},
		{name: "nothing", answer: content(nil), want: photo.UnsupportedImage},
		{name: "HTML", answer: content([]byte("<!doctype html><title>photo.jpg</title>")), want: photo.UnsupportedImage},
		{name: "SVG with an external entity", want: photo.UnsupportedImage, answer: content([]byte(
			`<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg xmlns="http://www.w3.org/2000/svg"><text>&x;</text></svg>`))},
		{name: "GIF that is a script", answer: content([]byte("GIF89a=1;alert(1)//")), want: photo.CorruptImage},
		{name: "half a JPEG", answer: content(good[:len(good)/2]), want: photo.CorruptImage},
		{name: "JPEG with garbage for EXIF", answer: content(withSegment(good, 0xe1, "Exif\x00\x00garbage garbage garbage")), want: ""},
		{name: "JPEG with garbage for a profile", answer: content(withSegment(good, 0xe2, "ICC_PROFILE\x00\x01\x01garbage garbage")), want: ""},
		{name: "JPEG that is a ZIP too", answer: content(append(bytes.Clone(good), "PK\x03\x04 and so on"...)), want: ""},
		{name: "PNG bomb", answer: content(bombPNG(t)), want: photo.ImageTooLarge},
		{name: "GIF bomb", answer: content(bombGIF(t)), want: photo.ImageTooLarge},
		{name: "TIFF bomb", answer: content(bombTIFF()), want: photo.ImageTooLarge},
	}
}

// goodJPEG is a photo of one megapixel; no two are the same.
func goodJPEG(t *testing.T, seed int) []byte {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, 1200, 900))
	for i := range img.Pix {
		img.Pix[i] = byte(i/7*(seed+1)) ^ byte(i>>9)
	}
	var buf bytes.Buffer
	require.NoError(t, jpeg.Encode(&buf, img, nil))
	return buf.Bytes()
}

// withSegment inserts a segment after a JPEG's start.
func withSegment(jpeg []byte, marker byte, payload string) []byte {
	segment := binary.BigEndian.AppendUint16([]byte{0xff, marker}, uint16(len(payload)+2))
	return bytes.Join([][]byte{jpeg[:2], segment, []byte(payload), jpeg[2:]}, nil)
}

const bombSide = 60_000

func bombPNG(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	require.NoError(t, png.Encode(&buf, image.NewGray(image.Rect(0, 0, 8, 8))))
	bomb := buf.Bytes()
	binary.BigEndian.PutUint32(bomb[16:], bombSide)
	binary.BigEndian.PutUint32(bomb[20:], bombSide)
	binary.BigEndian.PutUint32(bomb[29:], crc32.ChecksumIEEE(bomb[12:29]))
	return bomb
}

func bombGIF(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	require.NoError(t, gif.Encode(&buf, image.NewGray(image.Rect(0, 0, 8, 8)), nil))
	bomb := buf.Bytes()
	frame := bytes.Index(bomb, []byte{0x2c, 0, 0, 0, 0, 8, 0, 8, 0}) // the size of the screen alone is ignored
	require.Positive(t, frame)
	for _, at := range []int{6, 8, frame + 5, frame + 7} {
		binary.LittleEndian.PutUint16(bomb[at:], bombSide)
	}
	return bomb
}

// bombTIFF is a TIFF with a huge size and one strip without data.
func bombTIFF() []byte {
	tiff := []byte("II*\x00\x08\x00\x00\x00")
	entries := [][2]uint32{{256, bombSide}, {257, bombSide}, {258, 8}, {259, 1}, {262, 1}, {273, 8}, {277, 1}, {278, bombSide}, {279, 1}}
	tiff = binary.LittleEndian.AppendUint16(tiff, uint16(len(entries)))
	for _, e := range entries {
		tiff = binary.LittleEndian.AppendUint16(tiff, uint16(e[0]))
		tiff = binary.LittleEndian.AppendUint16(tiff, 4) // LONG
		tiff = binary.LittleEndian.AppendUint32(tiff, 1)
		tiff = binary.LittleEndian.AppendUint32(tiff, e[1])
	}
	return binary.LittleEndian.AppendUint32(tiff, 0)
}

// TestHostileBatch posts hostile photos among good ones. Hostile photos must fail with
// their code, good ones must be completed, and the worker must survive.
func TestHostileBatch(t *testing.T) {
	p := build(t)
	p.env = append(p.env, "SOURCE_ALLOW_CIDRS=127.0.0.1/32", "SOURCE_MAX_BYTES=20000000", "SOURCE_TIMEOUT=5s",
		"SOURCE_CONNECT_TIMEOUT=2s", "SOURCE_HEADER_TIMEOUT=3s", "SOURCE_HOST_CONCURRENCY=32", "RENDER_TIMEOUT=20s")
	t.Cleanup(func() { p.stop() })
	p.mustDev(t, "start")
	before := p.pid(t, "worker")

	all := kinds(t)
	number := *hostile
	if number == 0 {
		var quick []kind
		for _, k := range all {
			if !k.retried {
				quick = append(quick, k)
			}
		}
		all, number = quick, len(quick)
	}
	mux := http.NewServeMux()
	for i, k := range all {
		if k.answer != nil {
			mux.HandleFunc(fmt.Sprintf("/hostile/%d/", i), k.answer)
		}
	}
	for seed := range number { // drawn beforehand, so that good sources are fast
		mux.HandleFunc(fmt.Sprintf("/good/%d", seed), content(goodJPEG(t, seed)))
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	// Good and hostile photos alternate.
	conn, err := pgx.Connect(t.Context(), p.variable(t, "DATABASE_URL"))
	require.NoError(t, err)
	defer conn.Close(t.Context())
	add := func(url string) (id string) {
		require.NoError(t, conn.QueryRow(t.Context(), `INSERT INTO photos (url) VALUES ($1) RETURNING uuid::text`, url).Scan(&id))
		return id
	}
	var ids []string
	kindOf := map[string]kind{}
	for i := range number {
		k := all[i%len(all)]
		url := k.url
		if url == "" {
			url = fmt.Sprintf("%s/hostile/%d/%d", server.URL, i%len(all), i)
		}
		bad, good := add(url), add(fmt.Sprintf("%s/good/%d", server.URL, i))
		kindOf[bad], kindOf[good] = k, kind{name: "good"}
		ids = append(ids, bad, good)
	}
	// Meanwhile one render process crashes and another hangs: their pictures need
	// another attempt.
	disturbed := make(chan error, 1)
	go func() { disturbed <- p.disturb(t, before) }()

	start := time.Now()
	out, _ := p.run(t, append([]string{"process", "--watch"}, ids...)...)
	require.Equal(t, 2*number, strings.Count(out, " completed\n")+strings.Count(out, " failed: "), "each has a final status")

	api := client.New(p.api, "")
	ended := map[string]string{}
	for _, id := range ids {
		ph, err := api.Photo(t.Context(), uuid.MustParse(id))
		require.NoError(t, err)
		k := kindOf[id]
		result := string(ph.Status)
		if ph.Failure != nil {
			result = string(ph.Failure.Code)
		}
		ended[k.name] = fmt.Sprintf("%-34s %-20s %6.1f s  %s", k.name, result, ph.UpdatedAt.Sub(start).Seconds(), message(ph))
		if k.want == "" {
			require.Equal(t, photo.Completed, ph.Status, "%s: %s", k.name, message(ph))
			p.requireThumbnails(t, ph)
			continue
		}
		require.Equal(t, photo.Failed, ph.Status, k.name)
		require.Equal(t, k.want, ph.Failure.Code, "%s: %s", k.name, ph.Failure.Message)
	}
	if *verbose {
		for _, k := range append(all, kind{name: "good"}) {
			fmt.Println(ended[k.name])
		}
	}
	require.NoError(t, <-disturbed)
	require.Equal(t, before, p.pid(t, "worker"), "the worker has not died")
	peak := peakMemory(t, before)
	t.Logf("the worker's peak memory: %d MiB", peak>>20)
	require.Less(t, peak, 150<<20, "the worker decodes nothing, and holds no picture")
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", before))
	require.NoError(t, err)
	require.NotContains(t, string(maps), "libvips")
	require.Zero(t, p.files(t, "sources"))
}

// disturb kills one render process and suspends another during the batch.
func (p *program) disturb(t *testing.T, worker int) error {
	for p.count(t, photo.Completed) < 5 {
		if err := t.Context().Err(); err != nil {
			return err
		}
	}
	crashed := 0
	for _, signal := range []syscall.Signal{syscall.SIGSEGV, syscall.SIGSTOP} {
		for {
			if err := t.Context().Err(); err != nil {
				return err
			}
			others := slices.DeleteFunc(children(worker), func(pid int) bool { return pid == crashed })
			if len(others) > 0 {
				crashed = others[0]
				err := syscall.Kill(crashed, signal)
				if err == nil {
					break
				} else if err != syscall.ESRCH { // replaced meanwhile
					return err
				}
			}
		}
	}
	return nil
}

func message(ph client.Photo) string {
	if ph.Failure == nil {
		return ""
	}
	return ph.Failure.Message
}

// peakMemory returns the peak of the process's resident memory, in bytes.
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	defer status.Close()
	text, err := io.ReadAll(status)
	require.NoError(t, err)
	found := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	require.NotNil(t, found)
	kb, err := strconv.Atoi(string(found[1]))
	require.NoError(t, err)
	return kb << 10
}
