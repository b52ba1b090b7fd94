package node

import (
	"encoding/hex"
	"fmt"

	"github.com/goccy/go-yaml"

	"github.com/simreach/simreach/ue"
)

// Marshal writes a role's configuration as Load reads it, keys included: keys hide
// themselves from every other printer. The text is a secret.
func Marshal(r Role) ([]byte, error) {
	b, err := yaml.MarshalWithOptions(r, yaml.CustomMarshaler(func(k ue.Key) ([]byte, error) {
		return []byte(`"` + hex.EncodeToString(k[:]) + `"`), nil
	}))
	if err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	return b, nil
}
