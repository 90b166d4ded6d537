package activities_test

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/activities"
)

func TestEachActivityHasAStepLabel(t *testing.T) {
	all := reflect.TypeFor[*activities.Activities]()
	require.NotZero(t, all.NumMethod())
	for method := range all.Methods() {
		require.NotEmpty(t, activities.StepLabelsForTest[method.Name], method.Name)
	}
}
