package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"gocloud.dev/gcerrors"
	"golang.org/x/sync/errgroup"

	"github.com/photo-processor/photo-processor/internal/bucket"
	"github.com/photo-processor/photo-processor/internal/photo"
)

const (
	// confirmBatch is how many candidates are kept for the second look.
	confirmBatch = 512
	// confirmConcurrency is the number of concurrent second looks. After the
	// loss of a bucket, every row needs one, and each waits for the server.
	confirmConcurrency = 8
)

func (s *session) addCandidate(ctx context.Context, f Finding) error {
	s.candidates = append(s.candidates, f)
	if len(s.candidates) < confirmBatch {
		return nil
	}
	return s.confirmCandidates(ctx)
}

// verdict is the result of a second look: a finding, an unsettled file, or
// neither.
type verdict struct {
	Finding
	confirmed, unsettled, deleted bool
}

// confirmCandidates looks at the candidates again, counts and reports the
// findings among them, and forgets the candidates.
func (s *session) confirmCandidates(ctx context.Context) error {
	verdicts := make([]verdict, len(s.candidates))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(confirmConcurrency)
	for i, f := range s.candidates {
		group.Go(func() (err error) {
			if f.Kind == Orphaned {
				verdicts[i], err = s.confirmOrphan(groupCtx, f)
			} else {
				verdicts[i], err = s.confirmRow(groupCtx, f)
			}
			return err
		})
	}
	err := group.Wait()
	s.candidates = s.candidates[:0]
	for _, v := range verdicts { // also after an error: these files may be deleted
		s.count(v)
		if v.confirmed && s.Report != nil && err == nil {
			err = s.Report(v.Finding)
		}
	}
	return err
}

func (s *session) count(v verdict) {
	if v.unsettled {
		s.counts.Unsettled++
	}
	if v.deleted {
		s.counts.Deleted++
	}
	if !v.confirmed {
		return
	}
	last, seen := s.lastPhoto[v.Kind]
	isFirst := !seen || last != v.Photo
	s.lastPhoto[v.Kind] = v.Photo
	rows, photos := &s.counts.Missing, &s.counts.MissingPhotos
	switch v.Kind {
	case Damaged:
		rows, photos = &s.counts.Damaged, &s.counts.DamagedPhotos
	case Orphaned:
		s.counts.Orphaned++
		return
	}
	*rows++
	if isFirst {
		*photos++
	}
}

// confirmRow looks at a row whose file is missing or empty: at the file first,
// then at the row. A run writes a file before its row, and deletes the row
// before the file, and a key whose row is gone never gets a row again. So a row
// that is there before and after the look at the file was there during it, and
// its file must be, too. In the other order, a run could replace the thumbnail
// between the two looks.
func (s *session) confirmRow(ctx context.Context, f Finding) (verdict, error) {
	file, err := s.readFile(ctx, f.Key)
	if err != nil || file.size > 0 {
		return verdict{}, err
	}
	_, keys, err := s.readKeys(ctx, f.Photo)
	if err != nil || !slices.Contains(keys, f.Key) {
		return verdict{}, err
	}
	f.Kind = Missing
	if file.exists {
		f.Kind = Damaged
	}
	return verdict{Finding: f, confirmed: true}, nil
}

// confirmOrphan looks at a file without a row: at the file first, then at the
// photo's status and rows. With Prune it deletes the orphan.
//
// It reasons as activities.deleteOrphanedFiles: the file exists before the rows
// are read, and its run marked the photo processing before it wrote the file.
// If the photo is not processing when the rows are read, that run no longer
// owns the photo, and never publishes the file. A later run writes under other
// keys, unless a row has the key. So no row can refer to the file while it is
// being deleted, and no lock is needed.
//
// MinAge is not needed for that. It leaves a run the time to delete its files
// itself, and protects the files if the database was just restored or is
// another's.
func (s *session) confirmOrphan(ctx context.Context, f Finding) (verdict, error) {
	file, err := s.readFile(ctx, f.Key)
	if err != nil || !file.exists {
		return verdict{}, err
	}
	status, keys, err := s.readKeys(ctx, f.Photo)
	if err != nil || slices.Contains(keys, f.Key) {
		return verdict{}, err
	}
	if status == photo.Processing || time.Since(file.modTime) < s.MinAge {
		return verdict{unsettled: true}, nil
	}
	v := verdict{Finding: f, confirmed: true}
	if s.Prune {
		err = s.callBucket(ctx, func(ctx context.Context) error { return s.Thumbnails.Delete(ctx, f.Key) })
		if err != nil && gcerrors.Code(err) != gcerrors.NotFound { // else a worker has deleted it
			return v, &BucketError{fmt.Errorf("delete the orphaned file %q: %w", f.Key, err)}
		}
		v.deleted = true
	}
	return v, nil
}

// storedFile is what the bucket has under a key.
type storedFile struct {
	exists  bool
	size    int64 // bytes
	modTime time.Time
}

func (s *session) readFile(ctx context.Context, key string) (file storedFile, err error) {
	if key == "" { // of a row from before the schema excluded it
		return storedFile{}, nil
	}
	err = s.callBucket(ctx, func(ctx context.Context) error {
		attributes, err := s.Thumbnails.Attributes(ctx, key)
		if bucket.IsMissing(ctx, s.Thumbnails, err) {
			return nil
		}
		if err != nil {
			return &BucketError{fmt.Errorf("read the size of the file %q: %w", key, err)}
		}
		file = storedFile{true, attributes.Size, attributes.ModTime}
		return nil
	})
	return file, err
}

// readKeys returns the photo's status and the keys of its rows; both are empty
// if the photo does not exist.
func (s *session) readKeys(ctx context.Context, id uuid.UUID) (photo.Status, []string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	status, keys, err := s.DB.ThumbnailKeys(ctx, id)
	if errors.Is(err, photo.ErrNotFound) {
		err = nil
	}
	return status, keys, err
}
