package workflows

import (
	"fmt"

	"github.com/google/uuid"
	"go.temporal.io/sdk/workflow"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/photo"
)

// StartSelectedInput selects photos of the database.
type StartSelectedInput struct {
	Batch     uuid.UUID       `json:"batch"` // to which the photos belong
	Selection photo.Selection `json:"selection"`
	Query     string          `json:"query"` // of the request, for people
	Limit     int             `json:"limit"` // largest number of photos; 0 means no limit

	After   activities.Cursor `json:"after,omitzero"` // the last photo that earlier runs started
	Started int               `json:"started"`        // number of photos that they started
}

// selectedPages is the number of pages that one run starts before it continues
// as a new run: 10,000 photos, and a history of about 600 events and 840 kB as
// JSON.
const selectedPages = 50

// StartSelected starts the workflows of all photos that a request selects, the
// oldest first, page by page. A photo that matches the selection again, because
// it has failed again, is behind the cursor: each is started once. After a
// cancellation it starts no further page.
func StartSelected(ctx workflow.Context, in StartSelectedInput) error {
	pages, _ := workflow.NewDisconnectedContext(ctx) // a page is not canceled half-way
	for page := 0; ; page++ {
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("started %d", in.Started))
		switch {
		case ctx.Err() != nil:
			return cancelBatch(ctx, activities.EndBatchInput{Batch: in.Batch})
		case page == selectedPages:
			return workflow.NewContinueAsNewError(ctx, StartSelected, in)
		}
		limit := photosPerPage
		if in.Limit > 0 {
			limit = min(limit, in.Limit-in.Started)
		}
		var selected activities.SelectPageResult
		if limit > 0 {
			err := execute(pages, batchOptions, activityNames.SelectPage, activities.SelectPageInput{
				Batch: in.Batch, Query: in.Query, Selection: in.Selection, After: in.After, Limit: limit,
			}, &selected)
			if err != nil {
				return err
			}
		}
		if len(selected.Photos) > 0 {
			if err := startPage(pages, in.Batch, in.Started, selected.Photos); err != nil {
				return err
			}
		}
		in.After = selected.Next
		in.Started += len(selected.Photos)
		if len(selected.Photos) < photosPerPage {
			return endBatch(pages, activities.EndBatchInput{Batch: in.Batch})
		}
	}
}
