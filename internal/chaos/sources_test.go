package chaos_test

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"
)

const (
	// badAnswers is the fraction of bad responses, until a source has sent maxBad.
	badAnswers = 0.30
	// slowestAnswer makes some photos last while faults occur.
	slowestAnswer = 800 * time.Millisecond
)

// version is one of the pictures of a source.
type version struct {
	width, height int
	colour        color.YCbCr // of every pixel; unique among all versions of all photos
	content       []byte
}

// source is the source of one photo, with its responses so far.
type source struct {
	// Each response has one of two versions at random, so that a repeated or resumed
	// run may get the other one. Thumbnails of the first must not be left.
	versions   [2]version
	wellStatus int    // of a response that is not bad
	code       string // with which the photo must fail; "" if it must be completed

	badAnswers float64 // fraction of bad responses, up to maxBad
	maxBad     int

	mu      sync.Mutex
	answers *rand.Rand
	bad     int // bad responses so far
}

// sources is the server of a batch's pictures.
type sources struct {
	server *httptest.Server
	all    []*source
}

// Beyond good photos there are some of each kind that must fail for good: two in
// a hundred.
var failing = []string{"source_not_found", "source_forbidden", "corrupt_image", "unsupported_image"}

func serveSources(t *testing.T, p plan) *sources {
	t.Helper()
	s := &sources{}
	for i := range p.photos {
		s.all = append(s.all, newSource(p, i))
	}
	s.server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.server.Close)
	return s
}

func newSource(p plan, number int) *source {
	r := rand.New(rand.NewPCG(p.seed, uint64(number)+1))
	s := &source{wellStatus: http.StatusOK, answers: r, badAnswers: p.bad, maxBad: p.maxBad}
	for i := range s.versions {
		s.versions[i] = newVersion(r, color.YCbCr{
			// Far from black and white, where JPEG clips colours; 12 apart.
			Y: uint8(116 + 24*i), Cb: uint8(70 + 12*(number%10)), Cr: uint8(70 + 12*(number/10%10)),
		})
	}
	if kind := number % 50; kind < len(failing) {
		s.code = failing[kind]
	}
	switch s.code {
	case "source_not_found":
		s.wellStatus = http.StatusNotFound
	case "source_forbidden":
		s.wellStatus = http.StatusForbidden
	case "corrupt_image":
		for i, v := range s.versions {
			s.versions[i].content = v.content[:len(v.content)/2]
		}
	case "unsupported_image":
		for i := range s.versions {
			s.versions[i].content = []byte("<!doctype html><title>no photo</title>")
		}
	}
	return s
}

func newVersion(r *rand.Rand, colour color.YCbCr) version {
	v := version{width: 330 + r.IntN(600), height: 330 + r.IntN(400), colour: colour}
	img := image.NewYCbCr(image.Rect(0, 0, v.width, v.height), image.YCbCrSubsampleRatio420)
	fill := func(plane []byte, value byte) {
		for i := range plane {
			plane[i] = value
		}
	}
	fill(img.Y, colour.Y)
	fill(img.Cb, colour.Cb)
	fill(img.Cr, colour.Cr)
	var content bytes.Buffer
	_ = jpeg.Encode(&content, img, nil) // a buffer has no errors
	v.content = content.Bytes()
	return v
}

func (s *sources) url(number int) string { return fmt.Sprintf("%s/%d", s.server.URL, number) }

func (s *sources) serve(w http.ResponseWriter, r *http.Request) {
	number, err := strconv.Atoi(r.URL.Path[1:])
	if err != nil || number >= len(s.all) {
		http.NotFound(w, r)
		return
	}
	s.all[number].serve(w, r)
}

func (s *source) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	bad := s.answers.Float64() < s.badAnswers && s.bad < s.maxBad
	if bad {
		s.bad++
	}
	kind := s.answers.IntN(5)
	content := s.versions[s.answers.IntN(2)].content
	delay := time.Duration(s.answers.Int64N(int64(slowestAnswer)))
	s.mu.Unlock()

	select {
	case <-time.After(delay):
	case <-r.Context().Done(): // the client was killed
		return
	}
	switch {
	case !bad:
		w.WriteHeader(s.wellStatus)
		_, _ = w.Write(content)
	case kind == 0:
		w.WriteHeader(http.StatusInternalServerError)
	case kind == 1:
		w.WriteHeader(http.StatusServiceUnavailable)
	case kind == 2:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	case kind == 3: // breaks off within the picture
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		_, _ = w.Write(content[:len(content)/2])
		panic(http.ErrAbortHandler)
	default: // no response
		panic(http.ErrAbortHandler)
	}
}

// badSoFar is the number of bad responses so far.
func (s *source) badSoFar() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bad
}
