// The runtime would keep the files of control groups open, to follow the number
// of CPUs. There is one picture at a time, so that is of no interest.

//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command photo-processor-render makes thumbnails for a worker, which starts it:
// pictures come in through one pipe and thumbnails go out through another. It is
// the only program of ours that loads libvips, and it closes a sandbox around itself
// before it reads the first byte of a picture.
//
// Nobody needs to run it by hand: photo-processor render does it.
package main

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

	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/renderer/protocol"
	"github.com/photo-processor/photo-processor/internal/renderer/sandbox"
	"github.com/photo-processor/photo-processor/internal/thumbnail"
)

// keepBuffer is the largest buffer for sources that is kept for the next. Most
// photos fit into it.
const keepBuffer = 16 << 20

// warmup has one tiny picture of each kind that is read.
//
//go:embed warmup
var warmup embed.FS

// The sandbox wants its caller on the main thread.
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
	// The worker has pipes for stderr and room for some lines only.
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	debug.SetTraceback("single")

	setup, err := protocol.ReadSetup(in)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it is started by the worker, and has nothing to do for others")
	}
	if err != nil {
		return fmt.Errorf("setup: %w", err)
	}
	options := thumbnail.Options(setup.Options)
	if setup.MaxMemory > 0 {
		debug.SetMemoryLimit(setup.MaxMemory / 2) // collect rather than be refused
	}

	// All that libvips and its codecs load when they are first used, they load
	// now: afterwards there are no files.
	if err := thumbnail.Startup(); err != nil {
		return err
	}
	if err := makeAll(options); err != nil {
		return fmt.Errorf("before the sandbox is closed: %w", err)
	}
	status, err := sandbox.Enter(sandbox.Limits{Memory: setup.MaxMemory})
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	// From here on any thread will do, which is cheaper where C calls back.
	runtime.UnlockOSThread()
	// That nothing is missing in there is seen now, and not by the first photo.
	if err := makeAll(options); err != nil {
		return fmt.Errorf("inside the sandbox: %w", err)
	}
	if err := protocol.WriteHello(out, protocol.Hello{Version: protocol.Version, Sandbox: status}); err != nil {
		return err
	}
	return serve(in, out, options)
}

// serve answers until the worker closes the pipe.
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
		if err := answer(out, source, options); err != nil {
			return err
		}
	}
}

func answer(out io.Writer, source []byte, options thumbnail.Options) error {
	made, err := thumbnail.Make(source, options)
	if failure, ok := errors.AsType[*photo.Failure](err); ok {
		return protocol.WriteFailure(out, failure)
	}
	if err != nil {
		return err
	}
	pictures := make([]photo.Picture, len(made))
	for i, p := range made {
		pictures[i] = photo.Picture(p)
	}
	return protocol.WriteThumbnails(out, pictures)
}

// makeAll makes thumbnails of each kind of picture that this libvips reads.
func makeAll(options thumbnail.Options) error {
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
			return nil // this libvips was built without it
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
