package photo

import (
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// ParseUUID parses a photo's UUID in any form that uuid.Validate accepts: upper
// or lower case, without hyphens, in braces, or after "urn:uuid:". uuid.Parse
// alone ignores the first and last of 38 characters, whatever they are.
func ParseUUID(text string) (uuid.UUID, error) {
	if err := uuid.Validate(text); err != nil {
		return uuid.UUID{}, err
	}
	return uuid.Parse(text)
}

// IDs are UUIDs of photos. Their text form is base64 of 16 bytes each, about 21
// characters: Temporal limits the size of an input, and a batch has thousands.
type IDs []uuid.UUID

// MarshalText returns the UUIDs' bytes in base64.
func (ids IDs) MarshalText() ([]byte, error) {
	packed := make([]byte, 0, 16*len(ids))
	for _, id := range ids {
		packed = append(packed, id[:]...)
	}
	return base64.StdEncoding.AppendEncode(nil, packed), nil
}

// UnmarshalText decodes the output of MarshalText.
func (ids *IDs) UnmarshalText(text []byte) error {
	packed, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("UUIDs: %w", err)
	}
	if len(packed)%16 != 0 {
		return fmt.Errorf("UUIDs: %d bytes are not a multiple of 16", len(packed))
	}
	*ids = make(IDs, 0, len(packed)/16)
	for id := range slices.Chunk(packed, 16) {
		*ids = append(*ids, uuid.UUID(id))
	}
	return nil
}
