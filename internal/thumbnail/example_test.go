package thumbnail_test

import (
	"fmt"
	"log"
	"os"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/thumbnail"
)

// The file is stored lying on its side, with an EXIF orientation. Its
// thumbnails are upright, and the largest comes first.
func ExampleMake() {
	source, err := os.ReadFile("testdata/landscape.jpg")
	if err != nil {
		log.Fatal(err)
	}
	made, err := thumbnail.Make(source, thumbnail.Options{
		Boxes: []photo.Box{{Width: 128, Height: 128}, {Width: 320, Height: 320}},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range made.Thumbnails {
		fmt.Println(p.Size)
	}
	// Output:
	// 320x213
	// 128x85
}

// The error for an unsupported file has a code.
func ExampleMake_failure() {
	_, err := thumbnail.Make([]byte("hello, world"), thumbnail.Options{
		Boxes: []photo.Box{{Width: 320, Height: 320}},
	})
	fmt.Println(photo.CodeOf(err))
	// Output: unsupported_image
}
