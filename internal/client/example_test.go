package client_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/photo-processor/photo-processor/internal/client"
)

// Add a photo, have it processed, and wait for its thumbnails.
func Example() {
	server := httptest.NewServer(exampleAPI())
	defer server.Close()
	ctx := context.Background()

	api := client.New(server.URL, "")
	added, err := api.Add(ctx, true, "https://photos.example/mountains.jpg")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(added[0].UUID, added[0].Status)

	shown, err := api.Photo(ctx, added[0].UUID)
	for err == nil && !shown.Status.IsFinal() {
		time.Sleep(10 * time.Millisecond)
		shown, err = api.Photo(ctx, added[0].UUID)
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(shown.UUID, shown.Status)
	for _, t := range shown.Thumbnails {
		fmt.Printf("%d x %d: /thumbnails/%s\n", t.Width, t.Height, t.URL)
	}
	// Output:
	// 8f9a6b1e-0d3c-4c7e-9a55-6f2c1f2b7a10 pending
	// 8f9a6b1e-0d3c-4c7e-9a55-6f2c1f2b7a10 completed
	// 320 x 213: /thumbnails/8f9a6b1e-0d3c-4c7e-9a55-6f2c1f2b7a10/320x213-0123456789abcdef.jpg
}

// exampleAPI answers like an API whose worker needs until the second GET.
func exampleAPI() http.Handler {
	const (
		id      = "8f9a6b1e-0d3c-4c7e-9a55-6f2c1f2b7a10"
		summary = `"uuid":"` + id + `","url":"https://photos.example/mountains.jpg","created_at":"2026-01-01T00:00:00Z"`
		detail  = summary + `,"updated_at":"2026-01-01T00:00:01Z","workflow_id":"process-photo-` + id + `"`
	)
	gets := 0
	mux := http.NewServeMux()
	mux.HandleFunc("POST /photos", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusCreated, `[{`+summary+`,"status":"pending"}]`)
	})
	mux.HandleFunc("GET /photos/"+id, func(w http.ResponseWriter, _ *http.Request) {
		if gets++; gets == 1 {
			reply(w, http.StatusOK, `{`+detail+`,"status":"processing","thumbnails":[]}`)
			return
		}
		reply(w, http.StatusOK, `{`+detail+`,"status":"completed","thumbnails":[{"uuid":"`+id+`","width":320,"height":213,`+
			`"url":"`+id+`/320x213-0123456789abcdef.jpg","created_at":"2026-01-01T00:00:01Z"}]}`)
	})
	return mux
}
