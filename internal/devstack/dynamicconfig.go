package devstack

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"
)

// dynamicConfigFlags turns Temporal's dynamic configuration, as its servers read it from a file, into the flags that give the
// development server the same values.
func dynamicConfigFlags(file []byte) ([]string, error) {
	type setting struct {
		Value       any            `yaml:"value"`
		Constraints map[string]any `yaml:"constraints"`
	}
	var config map[string][]setting
	if err := yaml.Unmarshal(file, &config); err != nil {
		return nil, fmt.Errorf("dynamic configuration: %w", err)
	}

	var flags []string
	for _, key := range slices.Sorted(maps.Keys(config)) {
		settings := config[key]
		// The flags know one value for a key, which holds everywhere.
		if len(settings) != 1 || len(settings[0].Constraints) != 0 {
			return nil, fmt.Errorf("dynamic configuration: %s must have one value without constraints", key)
		}
		value, err := json.Marshal(settings[0].Value)
		if err != nil {
			return nil, fmt.Errorf("dynamic configuration: %s: %w", key, err)
		}
		flags = append(flags, "--dynamic-config-value", key+"="+string(value))
	}
	return flags, nil
}
