package api

import (
	"encoding/json"

	"github.com/google/uuid"
)

// ParseProcessForTest parses a body as POST /photos/process does.
func ParseProcessForTest(body []byte) (accepted, rejected []json.RawMessage, ids []uuid.UUID, err error) {
	elements, err := parseArray(body, 10_000)
	if err != nil {
		return nil, nil, nil, err
	}
	result, ids := partitionUUIDs(elements)
	return result.Accepted, result.Rejected, ids, nil
}
