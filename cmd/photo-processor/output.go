package main

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
)

// outputFormat is the value of --output.
type outputFormat string

const (
	outputText outputFormat = "text"
	// outputJSON is one JSON value, or one on each line. Fields are named as in
	// api/openapi.yaml.
	outputJSON outputFormat = "json"
)

// addOutputFlag adds the flag --output.
func addOutputFlag(cmd *cobra.Command) *outputFormat {
	format := outputText
	cmd.Flags().Var(&format, "output", "`FORMAT` of the output, text or json")
	return &format
}

func (f *outputFormat) String() string { return string(*f) }
func (f *outputFormat) Type() string   { return "FORMAT" }

func (f *outputFormat) Set(text string) error {
	switch format := outputFormat(text); format {
	case outputText, outputJSON:
		*f = format
		return nil
	}
	return errors.New("must be text or json")
}

// printJSON prints the value on one line.
func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false) // the & of queries
	return encoder.Encode(value)
}

// newTable returns a writer that aligns cells, each of which ends with a tab.
func newTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

// formatTime formats a time as the API does, in whole seconds.
func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// toPrintable replaces control characters: a URL comes from a stranger, and a
// terminal interprets them.
func toPrintable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}
