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

// environment holds the settings of libvips that exist only as environment
// variables. They must be set before libvips starts.
var environment = map[string]string{
	// Disable the decoders that libvips considers unfit for untrusted input,
	// such as those of SVG, PDF and ImageMagick.
	"VIPS_BLOCK_UNTRUSTED": "1",

	// Do not print warnings: they are about faults of single pictures, and
	// their text can be chosen by the author of the picture.
	"VIPS_WARNING": "0",

	// Decode in memory. By default a WebP of more than 100 MB goes through a
	// temporary file. The limit on the process bounds the memory.
	"VIPS_DISC_THRESHOLD": "1000g",
}

// Startup starts libvips. Later calls return the result of the first. [Make]
// calls it too, but then the first photo waits for it, and fails if the
// installation is broken.
//
// There is no shutdown: it would have to wait for all calls of Make, and the
// exit of the process frees the same memory.
func Startup() error { return startup() }

var startup = sync.OnceValue(func() error {
	for name, value := range environment {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("libvips cannot be configured: %w", err)
		}
	}
	vips.LoggingSettings(logFailedAssertion, vips.LogLevelCritical)

	// One thread per picture, because a worker renders pictures concurrently.
	// No cache of operations: photos share none, and a cache keeps their
	// pixels.
	err := vips.Startup(&vips.Config{ConcurrencyLevel: 1})
	if err != nil {
		return fmt.Errorf("libvips cannot be started: %w", err)
	}
	return nil
})

// logFailedAssertion logs messages that glib calls critical, which mean a
// defect in libvips or in its use here. It drops govips' own messages, which
// repeat the errors that govips returns.
func logFailedAssertion(domain string, _ vips.LogLevel, message string) {
	if domain != "govips" {
		slog.Error("libvips failed an assertion", "domain", domain, "message", message)
	}
}

// libvips collects the texts of its errors in one buffer for the whole process.
// Of two concurrent pictures, one may get the other's text or none, so a text
// only selects the code of a failure. JPEGs, of which a text can be the only
// sign that a part is missing, are decoded one at a time; see jpegMutex.

// clearErrorBuffer drops texts that earlier pictures left in the buffer:
// libvips also writes to it when it recovers, and govips does not always read
// it.
func clearErrorBuffer() { C.vips_error_clear() }

// errorText returns libvips' text for an error of govips: without the stack
// trace that govips adds to some errors, and with the buffered text that it
// omits from others. It clears the buffer.
func errorText(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\nStack:")
	return strings.TrimSpace(text + "\n" + takeErrorBuffer())
}

// takeErrorBuffer returns the buffered texts and clears the buffer.
func takeErrorBuffer() string {
	buffered := C.vips_error_buffer_copy() // also clears it
	defer C.g_free(C.gpointer(buffered))
	return C.GoString(buffered)
}
