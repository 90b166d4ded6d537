// Package telemetry sets up photo-processor's logs, metrics and traces.
package telemetry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// Keys of every log line about a photo, documented in docs/operating.md.
const (
	photoKey      = "photo"
	workflowIDKey = "workflow_id"
	runIDKey      = "run_id"
)

// NewLogger returns a logger that writes text or JSON lines of at least the
// level. A line that is logged with a context has the context's [WithAttrs] and
// trace ID. Lines of Temporal's SDK get the keys of this project. Durations have
// a unit, such as "1.24s", in JSON too.
func NewLogger(w io.Writer, level slog.Level, asJSON bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: replaceAttr}
	if asJSON {
		return slog.New(handler{slog.NewJSONHandler(w, options), nil})
	}
	return slog.New(handler{slog.NewTextHandler(w, options), nil})
}

// PhotoAttrs returns the attributes of a line about a photo. An empty runID is
// left out.
func PhotoAttrs(id uuid.UUID, runID string) []slog.Attr {
	attrs := []slog.Attr{slog.String(photoKey, id.String()), slog.String(workflowIDKey, photo.WorkflowID(id))}
	if runID != "" {
		attrs = append(attrs, slog.String(runIDKey, runID))
	}
	return attrs
}

// OutageLines limits the lines of an outage, during which every photo and every
// request fails: one line a minute for each cause. The zero value is ready to
// use; nil limits nothing.
type OutageLines struct{ causes sync.Map } // string ▶ *rate.Sometimes

// Do calls log, unless it has been called for the cause within a minute.
func (o *OutageLines) Do(cause string, log func()) {
	if o == nil {
		log()
		return
	}
	limit, _ := o.causes.LoadOrStore(cause, &rate.Sometimes{Interval: time.Minute})
	limit.(*rate.Sometimes).Do(log)
}

type attrsKey struct{}

// WithAttrs returns a context whose log lines have the attributes.
func WithAttrs(ctx context.Context, attrs ...slog.Attr) context.Context {
	before, _ := ctx.Value(attrsKey{}).([]slog.Attr)
	return context.WithValue(ctx, attrsKey{}, append(slices.Clip(before), attrs...))
}

// sdkKeys maps the keys of Temporal's SDK to the keys of this project.
var sdkKeys = map[string]string{
	"WorkflowID":   workflowIDKey,
	"RunID":        runIDKey,
	"WorkflowType": "workflow",
	"ActivityID":   "activity_id",
	"ActivityType": "activity",
	"Attempt":      "activity_attempt",
	"Namespace":    "namespace",
	"TaskQueue":    "task_queue",
	"WorkerID":     "worker_id",
	"WorkerType":   "worker_type",
	"Error":        "error",
	"TraceID":      "trace_id",
	"SpanID":       "span_id",
}

func replaceAttr(groups []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration { // slog writes nanoseconds in JSON
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	if len(groups) == 0 {
		if name, ok := sdkKeys[a.Key]; ok {
			a.Key = name
		}
	}
	return a
}

// handler adds the attributes of the context to each line. It formats the
// attributes of Logger.With only when a line is written: Temporal's SDK adds a
// dozen to the logger of each activity, and most activities log nothing.
type handler struct {
	slog.Handler
	before []slog.Attr
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler, append(slices.Clip(h.before), attrs...)}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithAttrs(withPhoto(h.before)).WithGroup(name), nil}
}

func (h handler) Handle(ctx context.Context, line slog.Record) error {
	if isNormal(line) {
		if !h.Enabled(ctx, slog.LevelDebug) {
			return nil
		}
		line.Level = slog.LevelDebug
	}
	next := h.Handler
	if len(h.before) > 0 {
		next = next.WithAttrs(withPhoto(h.before))
	}
	var more []slog.Attr
	line.Attrs(func(a slog.Attr) bool {
		more = append(more, a)
		return true
	})
	more = withPhoto(more)[len(more):]
	if attrs, ok := ctx.Value(attrsKey{}).([]slog.Attr); ok {
		more = append(more, attrs...)
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		more = append(more, slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	if len(more) > 0 {
		line = line.Clone()
		line.AddAttrs(more...)
	}
	return next.Handle(ctx, line)
}

// isNormal reports whether the line is one of Temporal's SDK that warns of what
// is normal here:
//   - An activity was canceled: its workflow was, or the worker stops.
//   - A workflow task took longer than 5 seconds. Local activities run within
//     the task, so that a slow source lengthens it; see package workflows.
func isNormal(line slog.Record) (canceled bool) {
	switch {
	case line.Message == "Activity task preprocess error: context canceled", strings.HasPrefix(line.Message, "[TMPRL1104]"):
		return true
	case line.Message == "Activity error.":
		line.Attrs(func(a slog.Attr) bool {
			err, ok := a.Value.Any().(error)
			canceled = canceled || ok && errors.Is(err, context.Canceled)
			return !canceled
		})
	}
	return canceled
}

// withPhoto adds the photo's UUID to attributes that have the ID of its workflow,
// as lines of Temporal's SDK do.
func withPhoto(attrs []slog.Attr) []slog.Attr {
	for _, a := range attrs {
		if a.Key != "WorkflowID" || a.Value.Kind() != slog.KindString {
			continue
		}
		if id, ok := photo.ParseWorkflowID(a.Value.String()); ok {
			return append(slices.Clip(attrs), slog.String(photoKey, id.String()))
		}
	}
	return attrs
}
