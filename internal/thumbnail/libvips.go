package thumbnail

// #cgo pkg-config: vips
// #include <vips/vips.h>
import "C"

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/davidbyttow/govips/v2/vips"
)

// environment is what libvips is told before it starts, because it can be told
// in no other way.
var environment = map[string]string{
	// Never run a decoder that libvips itself does not trust with hostile
	// input, such as those for SVG, PDF and everything ImageMagick knows.
	"VIPS_BLOCK_UNTRUSTED": "1",

	// Do not print warnings. They are about oddities of the picture at hand,
	// in words that its author can choose.
	"VIPS_WARNING": "0",

	// Decode in memory, however large the picture; by default a WebP of more
	// than 100 MB goes through a temporary file. MaxPixels bounds the memory.
	"VIPS_DISC_THRESHOLD": "1000g",
}

// Startup starts libvips. Only the first call does anything; the others give
// its result. Make starts libvips when it must, but then the first photo waits
// for it, and is who learns of a broken installation.
//
// Nothing stops libvips again: the end of the process does, and anything else
// would have to wait for the pictures that are being made.
func Startup() error { return startup() }

var startup = sync.OnceValue(func() error {
	for name, value := range environment {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("libvips cannot be configured: %w", err)
		}
	}
	vips.LoggingSettings(logFailedAssertion, vips.LogLevelCritical)

	// One thread for each picture: the pictures of a worker are made side by
	// side already. No cache: no two photos have an operation in common, and
	// it would hold on to their pixels.
	err := vips.Startup(&vips.Config{ConcurrencyLevel: 1})
	if err != nil {
		return fmt.Errorf("libvips cannot be started: %w", err)
	}
	return nil
})

// logFailedAssertion logs what glib calls critical: a defect in libvips or in
// our use of it. It leaves out what govips adds to errors that it returns.
func logFailedAssertion(domain string, _ vips.LogLevel, message string) {
	if domain != "govips" {
		slog.Error("libvips failed an assertion", "domain", domain, "message", message)
	}
}

// libvips keeps the reasons for its errors in one buffer for the whole process.
// When pictures are made side by side, one may get another's reason or none.
// That is why nothing but the choice between codes depends on it.

// forgetReasons drops what earlier pictures left in the buffer: libvips fills it
// also when it recovers, and govips does not always fetch what is there.
func forgetReasons() { C.vips_error_clear() }

// reason gives libvips' own words for an error of govips, without the stack
// trace that govips adds to some, and with the words that it leaves out of others.
func reason(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\nStack:")

	left := C.vips_error_buffer_copy() // and clear
	defer C.g_free(C.gpointer(left))
	return strings.TrimSpace(text + "\n" + C.GoString(left))
}
