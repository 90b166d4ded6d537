package api

import (
	"encoding/json"

	"github.com/google/uuid"
)

// ParseProcessForTest is what POST /photos/process makes of a body.
func ParseProcessForTest(body []byte) (accepted, rejected []json.RawMessage, ids []uuid.UUID, err error) {
	elements, err := parseArray(body, 10_000)
	if err != nil {
		return nil, nil, nil, err
	}
	answer, ids := sortOut(elements)
	return answer.Accepted, answer.Rejected, ids, nil
}
