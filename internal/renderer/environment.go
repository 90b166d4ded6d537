package renderer

import "slices"

// Environment is the environment of the processes that render, for those who
// want to run the same code under the same settings.
func Environment() []string { return slices.Clone(environment) }
