// Package audit compares the rows of thumbnails in PostgreSQL with the files in
// the thumbnails bucket, beside running workers.
//
// It merges two lists in the order of their keys, page by page, so that its
// memory does not grow with the number of photos:
//
//	rows of PostgreSQL ──┐            ┌─ a row without a file ──┐
//	                     ├─ the merge ┼─ a row of an empty file ┼─ the second look ─ findings
//	files of the bucket ─┘            └─ a file without a row ──┘
//
// The two lists are not of the same moment, and workers write meanwhile. So a
// difference is only a candidate: the second look reads the file and the row of
// a candidate again (see confirm.go). It also makes the result right, only
// slower, if the bucket lists its keys in another order.
package audit

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/photo-processor/photo-processor/internal/bucket"
	"github.com/photo-processor/photo-processor/internal/photo"
	"github.com/photo-processor/photo-processor/internal/postgres"
)

// Rows reads the rows of thumbnails. *postgres.DB implements it; tests let a
// worker write between two reads.
type Rows interface {
	ListThumbnailRows(ctx context.Context, after postgres.ThumbnailRow, limit int) ([]postgres.ThumbnailRow, error)
	ThumbnailKeys(ctx context.Context, id uuid.UUID) (photo.Status, []string, error)
}

// Kind is the kind of a finding.
type Kind string

// The kinds of findings.
const (
	Missing  Kind = "missing"  // a row whose file does not exist
	Damaged  Kind = "damaged"  // a row whose file is empty; rows have no size to compare
	Orphaned Kind = "orphaned" // a file without a row
)

// Finding is one confirmed difference between the rows and the files.
type Finding struct {
	Kind  Kind
	Photo uuid.UUID
	Key   string // in the thumbnails bucket
}

// Counts are the totals of an audit.
type Counts struct {
	Photos        int // that have rows
	Rows          int
	Files         int // whose key has the form of a thumbnail's
	Foreign       int // files with another key, which are never deleted
	Missing       int // rows
	MissingPhotos int // photos of these rows
	Damaged       int // rows
	DamagedPhotos int // photos of these rows
	Orphaned      int // files
	Deleted       int // orphaned files that were deleted
	Unsettled     int // files without a row that may be a run's: see Auditor.MinAge
}

// IsClean reports whether nothing is missing, damaged or left orphaned.
func (c Counts) IsClean() bool { return c.Missing == 0 && c.Damaged == 0 && c.Orphaned == c.Deleted }

// DefaultMinAge is twice the 30 minutes of one attempt at MakeThumbnails: an
// attempt that has lost its photo to a newer run deletes its files itself.
const DefaultMinAge = time.Hour

// ErrNoRows is returned by Run if Prune is set and the database has no row of a
// thumbnail. It is probably the wrong database, and every file would be
// deleted.
var ErrNoRows = errors.New("the database has no thumbnails, so that every file would be deleted; check DATABASE_URL")

// Auditor compares rows and files. DB, Thumbnails and Timeout are required.
type Auditor struct {
	DB         Rows
	Thumbnails *blob.Bucket
	// Timeout bounds each request to the bucket and each query.
	Timeout time.Duration
	// MinAge is the least age of a file that counts as orphaned, by the clocks
	// of this machine and of the bucket's server. Younger files without a row
	// count as unsettled, as do those of a photo that is processing.
	MinAge time.Duration
	// Prune deletes the orphaned files.
	Prune bool
	// Report is called for each finding, of one photo after the other, if it is
	// not nil. Its error ends the audit.
	Report func(Finding) error

	rowsPage, filesPage int // for tests; 0 is the default
}

const (
	rowsPage = 1000
	// filesPage is the most that servers with S3's API return.
	filesPage = 1000
	// directoryPage is larger because fileblob reads the names of all files
	// before the page, too. It takes about 25 MB. At the border of two pages,
	// fileblob may skip a foreign file whose name begins with that of a directory.
	directoryPage = 50_000
	// listAttempts bounds how often a page of a directory is read. fileblob
	// returns an error if a worker deletes a file while it reads the names.
	listAttempts = 10
)

// Run compares all rows with all files. It returns what it counted also with an
// error; errors of PostgreSQL include postgres.ErrUnavailable.
func (a *Auditor) Run(ctx context.Context) (Counts, error) {
	s := session{Auditor: a, lastPhoto: map[Kind]uuid.UUID{}}
	err := s.run(ctx)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err() // not how the interrupted request failed
	}
	return s.counts, err
}

// session is the state of one Run.
type session struct {
	*Auditor
	counts     Counts
	candidates []Finding          // that wait for the second look
	lastPhoto  map[Kind]uuid.UUID // of the findings, which are in the order of the photos
}

func (s *session) run(ctx context.Context) error {
	if s.Prune {
		page, err := s.listRows(ctx, postgres.ThumbnailRow{}, 1)
		if err == nil && len(page) == 0 {
			err = ErrNoRows
		}
		if err != nil {
			return err
		}
	}
	nextRow, stopRows := iter.Pull2(s.rows(ctx))
	defer stopRows()
	nextFile, stopFiles := iter.Pull2(s.files(ctx))
	defer stopFiles()
	row, err, moreRows := nextRow()
	file, fileErr, moreFiles := nextFile()
	for moreRows || moreFiles {
		if err := errors.Join(err, fileErr); err != nil {
			return err
		}
		order := -1
		switch {
		case !moreRows:
			order = 1
		case moreFiles && isKeyOf(row.Key, row.Photo): // other keys are not in the order of the list
			order = strings.Compare(row.Key, file.Key)
		}
		switch {
		case order < 0:
			err = s.addCandidate(ctx, Finding{Missing, row.Photo, row.Key})
		case order > 0:
			id, _ := parseKey(file.Key)
			err = s.addCandidate(ctx, Finding{Orphaned, id, file.Key})
		case file.Size == 0:
			err = s.addCandidate(ctx, Finding{Damaged, row.Photo, row.Key})
		}
		if err != nil {
			return err
		}
		if order <= 0 {
			row, err, moreRows = nextRow()
		}
		if order >= 0 {
			file, fileErr, moreFiles = nextFile()
		}
	}
	return s.confirmCandidates(ctx)
}

// rows iterates over all rows. It ends after an error.
func (s *session) rows(ctx context.Context) iter.Seq2[postgres.ThumbnailRow, error] {
	limit := s.rowsPage
	if limit == 0 {
		limit = rowsPage
	}
	return func(yield func(postgres.ThumbnailRow, error) bool) {
		for last := (postgres.ThumbnailRow{}); ; {
			page, err := s.listRows(ctx, last, limit)
			if err != nil {
				yield(postgres.ThumbnailRow{}, err)
				return
			}
			for _, row := range page {
				if s.counts.Rows == 0 || row.Photo != last.Photo {
					s.counts.Photos++
				}
				s.counts.Rows++
				last = row
				if !yield(row, nil) {
					return
				}
			}
			if len(page) < limit {
				return
			}
		}
	}
}

func (s *session) listRows(ctx context.Context, after postgres.ThumbnailRow, limit int) ([]postgres.ThumbnailRow, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	return s.DB.ListThumbnailRows(ctx, after, limit)
}

// files iterates over the files whose key has the form of a thumbnail's. It
// ends after an error.
func (s *session) files(ctx context.Context) iter.Seq2[*blob.ListObject, error] {
	limit := s.filesPage
	if limit == 0 {
		limit = filesPage
		if s.Thumbnails.As(new(os.FileInfo)) {
			limit = directoryPage
		}
	}
	return func(yield func(*blob.ListObject, error) bool) {
		for token := blob.FirstPageToken; len(token) > 0; {
			page, next, err := s.listFiles(ctx, token, limit)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, file := range page {
				if strings.HasPrefix(file.Key, bucket.ProbePrefix) {
					continue
				}
				if _, ok := parseKey(file.Key); !ok {
					s.counts.Foreign++
					continue
				}
				s.counts.Files++
				if !yield(file, nil) {
					return
				}
			}
			token = next
		}
	}
}

func (s *session) listFiles(ctx context.Context, token []byte, limit int) (page []*blob.ListObject, next []byte, err error) {
	isDir := s.Thumbnails.As(new(os.FileInfo))
	for range listAttempts {
		// fileblob ignores the context, and a large directory takes long.
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if isDir {
			page, next, err = s.Thumbnails.ListPage(ctx, token, limit, nil)
		} else {
			err = s.callBucket(ctx, func(ctx context.Context) (err error) {
				page, next, err = s.Thumbnails.ListPage(ctx, token, limit, nil)
				return err
			})
		}
		if !isDir || gcerrors.Code(err) != gcerrors.NotFound {
			break
		}
	}
	if err != nil {
		return nil, nil, &BucketError{fmt.Errorf("list the thumbnails bucket: %w", err)}
	}
	return page, next, nil
}

// callBucket makes a request to the thumbnails bucket, within Timeout.
func (s *session) callBucket(ctx context.Context, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	return request(ctx)
}

// BucketError is an error of a request to the thumbnails bucket.
type BucketError struct{ Err error }

func (e *BucketError) Error() string { return e.Err.Error() }
func (e *BucketError) Unwrap() error { return e.Err }

// thumbnailKey matches the keys that activities.thumbnailKey makes.
var thumbnailKey = regexp.MustCompile(`^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/[1-9][0-9]*x[1-9][0-9]*-[0-9a-f]{16}-[0-9a-f]{8}\.(?:jpg|webp|avif|png)$`)

// parseKey returns the photo of a thumbnail's key; ok is false for a key that
// no worker makes.
func parseKey(key string) (id uuid.UUID, ok bool) {
	match := thumbnailKey.FindStringSubmatch(key)
	if match == nil {
		return uuid.UUID{}, false
	}
	id, err := uuid.Parse(match[1])
	return id, err == nil
}

// isKeyOf reports whether the key has the form of a thumbnail's of the photo.
func isKeyOf(key string, id uuid.UUID) bool {
	parsed, ok := parseKey(key)
	return ok && parsed == id
}
