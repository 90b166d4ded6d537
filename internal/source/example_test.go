package source_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"

	"github.com/photo-processor/photo-processor/internal/source"
)

// A fetch with the default limits. Loopback addresses are not public, so the
// example allows their network.
func ExampleFetcher_Fetch() {
	// A GIF of one pixel.
	const gif = "GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, gif)
	}))
	defer server.Close()

	fetcher, err := source.New(source.Config{
		AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer fetcher.Close()

	var photo bytes.Buffer
	result, err := fetcher.Fetch(context.Background(), server.URL+"/photo.gif", &photo, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.MediaType)
	fmt.Println(result.Bytes, "bytes")
	// Output:
	// image/gif
	// 35 bytes
}
