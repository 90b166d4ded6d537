// Without these settings the Go runtime keeps cgroup files open to follow CPU
// limits, which do not matter for one picture at a time.

//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command photo-processor-render makes thumbnails for the worker that starts
// it. It reads pictures from stdin and writes thumbnails to stdout, in the
// frames of internal/renderer/protocol:
//
//	read setup ──▶ start libvips ──▶ warm up ──▶ enter sandbox ──▶ warm up ──▶ hello ──▶ serve
//
// To warm up is to render a tiny picture of each kind.
//
// It is the only program of the service that loads libvips, and it enters a
// sandbox before it reads the first byte of a picture. To try it by hand, run
// photo-processor render, which starts it.
package main

import "C" // links libc_linux.c

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"slices"

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer/protocol"
	"github.com/photo-processor/photo-processor/internal/renderer/sandbox"
	"github.com/photo-processor/photo-processor/internal/thumbnail"
)

// keepBuffer is the size of the largest source buffer that is reused, 16 MiB.
// Most photos fit into it.
const keepBuffer = 16 << 20

// warmup holds a tiny picture of each supported kind.
//
//go:embed warmup
var warmup embed.FS

// sandbox.Enter must be called on the main thread.
func init() { runtime.LockOSThread() }

func main() {
	if len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "photo-processor-render is started by the worker; to try it, use: photo-processor render")
		os.Exit(2)
	}
	if err := realMain(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func realMain(in io.Reader, out io.Writer) error {
	// The worker logs only the first lines of stderr.
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	debug.SetTraceback("single")

	setup, err := protocol.ReadSetup(in)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("no setup on stdin: photo-processor-render is started by the worker")
	}
	if err != nil {
		return fmt.Errorf("setup: %w", err)
	}
	options := thumbnail.Options(setup.Options)
	if setup.MaxMemory > 0 {
		debug.SetMemoryLimit(setup.MaxMemory / 2) // collect garbage before the kernel refuses memory
	}

	// libvips and its codecs load files on first use, which is possible only
	// before the process enters the sandbox.
	if err := thumbnail.Startup(); err != nil {
		return err
	}
	if err := renderWarmup(options); err != nil {
		return fmt.Errorf("before entering the sandbox: %w", err)
	}
	status, err := sandbox.Enter(sandbox.Limits{Memory: setup.MaxMemory})
	if err != nil {
		return fmt.Errorf("enter the sandbox: %w", err)
	}
	// Calls back from C are cheaper on any thread than on a locked one.
	runtime.UnlockOSThread()
	// A library that needs a file fails here, and not on the first photo.
	if err := renderWarmup(options); err != nil {
		return fmt.Errorf("inside the sandbox: %w", err)
	}
	if err := protocol.WriteHello(out, protocol.Hello{Version: protocol.Version, Sandbox: status}); err != nil {
		return err
	}
	return serve(in, out, options)
}

// serve answers sources until the worker closes the pipe.
func serve(in io.Reader, out io.Writer, options thumbnail.Options) error {
	var buf []byte
	for {
		source, err := protocol.ReadSource(in, buf)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if cap(source) <= keepBuffer {
			buf = source
		}
		err = answer(out, source, options)
		clear(source) // a later picture may take over the process
		if err != nil {
			return err
		}
	}
}

// answer renders one source, and writes the result or the failure to out.
func answer(out io.Writer, source []byte, options thumbnail.Options) error {
	made, err := thumbnail.Make(source, options)
	if failure, ok := errors.AsType[*photo.Failure](err); ok {
		return protocol.WriteFailure(out, failure)
	}
	if err != nil {
		return err
	}
	err = protocol.WriteRendering(out, made)
	for _, t := range made.Thumbnails {
		clear(t.Bytes)
	}
	return err
}

// renderWarmup renders the picture of each kind that this libvips supports. If
// a thumbnail is to be cropped, one of each picture is.
func renderWarmup(options thumbnail.Options) error {
	isCover := func(box photo.Box) bool { return box.Mode == photo.Cover }
	if slices.ContainsFunc(options.Boxes, isCover) {
		// The pictures may be smaller than the configured boxes or have their
		// aspect ratio. No picture has the ratio of this box.
		options.Boxes = append(slices.Clone(options.Boxes), photo.Box{Width: 2, Height: 8, Mode: photo.Cover})
	}
	return fs.WalkDir(warmup, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		source, err := warmup.ReadFile(path)
		if err != nil {
			return err
		}
		var reply bytes.Buffer
		if err := answer(&reply, source, options); err != nil {
			return err
		}
		_, failure, err := protocol.ReadAnswer(&reply, protocol.Options(options))
		if failure != nil && failure.Code == photo.UnsupportedImage {
			return nil // libvips was built without this kind
		}
		if failure != nil {
			err = failure
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	})
}
