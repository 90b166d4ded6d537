package starter_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"testing"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"

	"github.com/photo-processor/photo-processor/activities"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
	"github.com/photo-processor/photo-processor/internal/starter"
	"github.com/photo-processor/photo-processor/workflows"
)

func TestMain(m *testing.M) { os.Exit(devstacktest.WithTemporal(m.Run)) }

// Start a photo's workflow, and wait for its result.
func ExampleStarter_StartPhoto() {
	ctx := context.Background()
	temporal, err := client.Dial(client.Options{
		HostPort: os.Getenv("TEMPORAL_ADDRESS"),
		Logger:   sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer temporal.Close()
	stop := startWorker(temporal, "photo-processor")
	defer stop()

	start := starter.Starter{Temporal: temporal, TaskQueue: "photo-processor"}
	run, err := start.StartPhoto(ctx, uuid.MustParse("8f9a6b1e-0d3c-4c7e-9a55-6f2c1f2b7a10"))
	if err != nil {
		log.Fatal(err)
	}
	var result activities.MakeThumbnailsResult
	if err := run.Get(ctx, &result); err != nil {
		log.Fatal(err) // the photo failed or was canceled
	}
	fmt.Println(run.GetID())
	fmt.Println(result.Thumbnails)
	// Output:
	// process-photo-8f9a6b1e-0d3c-4c7e-9a55-6f2c1f2b7a10
	// [320x213]
}

// startWorker runs a worker whose activities succeed without doing anything.
func startWorker(temporal client.Client, taskQueue string) (stop func()) {
	w := worker.New(temporal, taskQueue, worker.Options{})
	w.RegisterWorkflow(workflows.ProcessPhoto)
	for name, stub := range map[string]any{
		"MarkProcessing": func(activities.MarkProcessingInput) error { return nil },
		"FetchSource": func(activities.FetchSourceInput) (*activities.FetchSourceResult, error) {
			return &activities.FetchSourceResult{}, nil
		},
		"MakeThumbnails": func(activities.MakeThumbnailsInput) (*activities.MakeThumbnailsResult, error) {
			return &activities.MakeThumbnailsResult{Thumbnails: []string{"320x213"}}, nil
		},
		"Finish": func(activities.FinishInput) error { return nil },
	} {
		w.RegisterActivityWithOptions(stub, activity.RegisterOptions{Name: name})
	}
	if err := w.Start(); err != nil {
		log.Fatal(err)
	}
	return w.Stop
}
