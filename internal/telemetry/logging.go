// Package telemetry lets operators see what photo-processor does.
package telemetry

import (
	"io"
	"log/slog"
)

// NewLogger makes a logger that writes lines of text or of JSON, from level on.
func NewLogger(w io.Writer, level slog.Level, asJSON bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if asJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
