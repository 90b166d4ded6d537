package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/photo-processor/photo-processor/internal/audit"
	"github.com/photo-processor/photo-processor/internal/bucket"
	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/exitcode"
	"github.com/photo-processor/photo-processor/internal/postgres"
)

// auditOptions are the flags of audit.
type auditOptions struct {
	list, photos, prune bool
	minAge              time.Duration
	output              *outputFormat
}

func newAudit() *cobra.Command {
	var options auditOptions
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Compare the rows of thumbnails with the files in the bucket",
		Long: `Compare the rows of thumbnails in PostgreSQL with the files in the thumbnails bucket,
also while workers run, and print how many there are:

  missing    rows whose file does not exist
  damaged    rows whose file is empty
  orphaned   files without a row
  unsettled  files without a row that are younger than --min-age, or whose photo is
             processing: a run publishes or deletes them
  foreign    files that are not named as thumbnails are; they are never deleted

With --list or --photos these counts are on stderr, as text. The command exits with 1 if
something is missing or damaged, or orphaned and not deleted; and with 3 if it cannot
use PostgreSQL or the bucket.`,
		Example: `  photo-processor audit --list
  photo-processor audit --photos | photo-processor process --watch -
  photo-processor audit --prune`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if options.list && options.photos {
				return exitcode.Usagef("--list and --photos exclude each other")
			}
			if options.minAge < 0 {
				return exitcode.Usagef("--min-age must not be negative")
			}
			cfg, err := config.Load()
			if err != nil {
				return err
			}
			newLogger(cfg, cmd.ErrOrStderr())
			return runAudit(cmd.Context(), cfg, options, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	options.output = addOutputFlag(cmd)
	cmd.Flags().BoolVar(&options.list, "list", false, "print each finding: its kind, a tab, and its key")
	cmd.Flags().BoolVar(&options.photos, "photos", false, "print the UUIDs of the photos with missing or damaged files")
	cmd.Flags().BoolVar(&options.prune, "prune", false, "delete the orphaned files")
	cmd.Flags().DurationVar(&options.minAge, "min-age", audit.DefaultMinAge, "least `AGE` of an orphaned file")
	return cmd
}

func runAudit(ctx context.Context, cfg config.Config, options auditOptions, stdout, stderr io.Writer) error {
	db, err := postgres.Open(cfg.DatabaseURL, cfg.DatabaseMaxConns)
	if err != nil {
		return err
	}
	defer db.Close()
	thumbnails, err := bucket.OpenExisting(ctx, cfg.ThumbnailsBucket)
	if err != nil {
		return &exitcode.Error{Code: exitcode.Unreachable, Err: fmt.Errorf("THUMBNAILS_BUCKET: %w", err)}
	}
	defer func() { _ = thumbnails.Close() }() // it has only been read, or a file deleted
	auditor := audit.Auditor{
		DB: db, Thumbnails: thumbnails, Timeout: cfg.BucketTimeout,
		MinAge: options.minAge, Prune: options.prune, Report: reportFindings(options, stdout),
	}
	counts, err := auditor.Run(ctx)
	if err != nil {
		if counts.Deleted > 0 {
			fmt.Fprintf(stderr, "%d orphaned files were deleted before the error\n", counts.Deleted)
		}
		if _, ok := errors.AsType[*audit.BucketError](err); ok || errors.Is(err, postgres.ErrUnavailable) {
			return &exitcode.Error{Code: exitcode.Unreachable, Err: err}
		}
		return err
	}
	switch {
	case options.list || options.photos:
		err = printCounts(stderr, counts, options.prune)
	case *options.output == outputJSON:
		err = printJSON(stdout, auditCounts(counts))
	default:
		err = printCounts(stdout, counts, options.prune)
	}
	if err != nil {
		return err
	}
	if !counts.IsClean() {
		return exitcode.ErrReported
	}
	return nil
}

// reportFindings returns the function that prints a finding as the options
// require.
func reportFindings(options auditOptions, stdout io.Writer) func(audit.Finding) error {
	var last *uuid.UUID // findings in rows are in the order of their photos
	return func(f audit.Finding) (err error) {
		asJSON := *options.output == outputJSON
		switch {
		case options.list && asJSON:
			err = printJSON(stdout, auditFinding(f))
		case options.list:
			_, err = fmt.Fprintf(stdout, "%s\t%s\n", f.Kind, f.Key)
		case options.photos && f.Kind != audit.Orphaned && (last == nil || *last != f.Photo):
			last = &f.Photo
			if asJSON {
				return printJSON(stdout, map[string]uuid.UUID{"uuid": f.Photo})
			}
			_, err = fmt.Fprintln(stdout, f.Photo)
		}
		return err
	}
}

// auditFinding is a finding in JSON.
type auditFinding struct {
	Kind  audit.Kind `json:"kind"`
	Photo uuid.UUID  `json:"photo_uuid"`
	Key   string     `json:"key"`
}

// auditCounts are the counts in JSON.
type auditCounts struct {
	Photos        int `json:"photos"`
	Rows          int `json:"rows"`
	Files         int `json:"files"`
	Foreign       int `json:"foreign"`
	Missing       int `json:"missing"`
	MissingPhotos int `json:"missing_photos"`
	Damaged       int `json:"damaged"`
	DamagedPhotos int `json:"damaged_photos"`
	Orphaned      int `json:"orphaned"`
	Deleted       int `json:"deleted"`
	Unsettled     int `json:"unsettled"`
}

func printCounts(w io.Writer, c audit.Counts, pruned bool) error {
	table := newTable(w)
	line := func(name string, n int, note string) { fmt.Fprintf(table, "%s\t%d%s\n", name, n, note) }
	ofPhotos := func(n int) string {
		switch n {
		case 0:
			return ""
		case 1:
			return " (of 1 photo)"
		}
		return fmt.Sprintf(" (of %d photos)", n)
	}
	line("photos", c.Photos, "")
	line("rows", c.Rows, "")
	line("files", c.Files, "")
	line("missing", c.Missing, ofPhotos(c.MissingPhotos))
	line("damaged", c.Damaged, ofPhotos(c.DamagedPhotos))
	line("orphaned", c.Orphaned, "")
	if pruned {
		line("deleted", c.Deleted, "")
	}
	line("unsettled", c.Unsettled, "")
	line("foreign", c.Foreign, "")
	return table.Flush()
}
