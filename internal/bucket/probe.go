package bucket

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/google/uuid"
	"gocloud.dev/blob"
)

// Probe checks a bucket that the process writes to. A bucket may be readable
// while its disk is full or the process lacks the permission to write. Each
// write reports its result to the probe, so that checks write nothing unless the
// last write failed.
type Probe struct {
	bucket      *blob.Bucket
	accessible  func(context.Context) error
	writeFailed atomic.Bool
}

// NewProbe returns a probe of the bucket, which it takes for writable until a
// write fails.
func NewProbe(bucket *blob.Bucket) *Probe {
	return &Probe{bucket: bucket, accessible: Check(bucket)}
}

// ProbePrefix begins the keys of the objects that Check writes. One is left if
// the process ends before it deletes the object.
const ProbePrefix = "write-probe-"

// probeBytes is the size of the object that Check writes: about that of a
// thumbnail. A full disk may have room for less.
const probeBytes = 64 << 10

// Wrote records how a write to the bucket ended. A canceled write says nothing
// about the bucket.
func (p *Probe) Wrote(err error) {
	if !errors.Is(err, context.Canceled) {
		p.writeFailed.Store(err != nil)
	}
}

// Check returns an error unless the bucket can be used. If the last write
// failed, Check writes an object of 64 KiB and deletes it.
func (p *Probe) Check(ctx context.Context) error {
	if !p.writeFailed.Load() {
		return p.accessible(ctx)
	}
	key := ProbePrefix + uuid.NewString()
	if err := p.bucket.WriteAll(ctx, key, make([]byte, probeBytes), nil); err != nil {
		return fmt.Errorf("the last write failed, and so does a trial: %w", err)
	}
	if err := p.bucket.Delete(ctx, key); err != nil {
		return fmt.Errorf("delete an object that was written for trial: %w", err)
	}
	p.writeFailed.Store(false)
	return nil
}
