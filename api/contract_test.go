package api_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// contract is api/openapi.yaml, with one difference: an object has no other
// fields than the documented ones. The file itself leaves objects open, because
// clients must accept fields that are added later.
type contract struct {
	doc    *openapi3.T
	router routers.Router
}

var loadContract = sync.OnceValues(func() (*contract, error) {
	doc, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(openapi3.NewLoader().Context); err != nil {
		return nil, err
	}
	for _, schema := range doc.Components.Schemas {
		if schema.Value.Properties != nil {
			schema.Value.AdditionalProperties.Has = new(bool)
		}
		// The schema {} allows any value; kin-openapi refuses null and 1e400.
		for _, property := range schema.Value.Properties {
			if items := property.Value.Items; items != nil && items.Value.IsEmpty() {
				property.Value.Items = nil
			}
		}
	}
	doc.Servers = nil // tests have the API listen on any port
	router, err := gorillamux.NewRouter(doc)
	return &contract{doc, router}, err
})

// responseOptions enable every check of kin-openapi.
var responseOptions = openapi3filter.Options{
	IncludeResponseStatus: true, MultiError: true,
	SchemaValidationOptions: []openapi3.SchemaValidationOption{
		openapi3.WithStringFormatValidator("uuid", openapi3.NewRegexpFormatValidator(openapi3.FormatOfStringForUUIDOfRFC9562)),
		openapi3.WithStringFormatValidator("date-time", openapi3.NewRegexpFormatValidator(openapi3.FormatOfStringDateTime)),
	},
}

// commonHeaders may be in every response. The contract documents the others
// for each response.
var commonHeaders = map[string]bool{
	"Cache-Control": true, "Content-Length": true, "Content-Security-Policy": true, "Content-Type": true, "Date": true, "X-Content-Type-Options": true,
}

// requireDocumented fails the test unless the contract has the response.
func requireDocumented(t *testing.T, resp *http.Response, body []byte) {
	t.Helper()
	contract, err := loadContract()
	require.NoError(t, err)
	require.NoError(t, contract.check(resp, body), "%s %s: %d %s", resp.Request.Method, resp.Request.URL, resp.StatusCode, body)
}

// check returns an error if the contract does not have the response. HEAD
// responses are those of GET without the body.
func (c *contract) check(resp *http.Response, body []byte) error {
	options := responseOptions
	req := resp.Request.Clone(resp.Request.Context())
	if req.Method == http.MethodHead {
		req.Method = http.MethodGet
		options.ExcludeResponseBody = true
	}
	route, params, err := c.router.FindRoute(req)
	if err != nil {
		return c.checkUnrouted(resp, body, err)
	}
	documented := route.Operation.Responses.Status(resp.StatusCode)
	if documented == nil { // ValidateResponse accepts any 304
		return fmt.Errorf("%s %s has no status %d", route.Method, route.Path, resp.StatusCode)
	}
	headers := maps.Clone(commonHeaders)
	for name := range documented.Value.Headers {
		headers[http.CanonicalHeaderKey(name)] = true
	}
	for name := range resp.Header {
		if !headers[name] {
			return fmt.Errorf("%s %s: %d has no header %s", route.Method, route.Path, resp.StatusCode, name)
		}
	}
	return openapi3filter.ValidateResponse(req.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route},
		Status:                 resp.StatusCode, Header: resp.Header, Body: io.NopCloser(bytes.NewReader(body)), Options: &options,
	})
}

// checkUnrouted checks the response to a path or method that the contract does
// not have.
func (c *contract) checkUnrouted(resp *http.Response, body []byte, reason error) error {
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
	case resp.StatusCode == http.StatusNotFound && errors.Is(reason, routers.ErrPathNotFound):
	case resp.StatusCode == http.StatusMethodNotAllowed && resp.Header.Get("Allow") != "":
	default:
		return fmt.Errorf("the contract has no such request: %w", reason)
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return err
	}
	return c.doc.Components.Schemas["Error"].Value.VisitJSON(value)
}

func TestContractRejectsUndocumentedResponses(t *testing.T) {
	t.Parallel()
	contract, err := loadContract()
	require.NoError(t, err)
	const (
		id      = "8f9a6b1e-0d3c-4c7e-9a55-6f2c1f2b7a10"
		summary = `"uuid":"` + id + `","url":"https://photos.example/1.jpg","status":"failed","created_at":"2026-01-01T00:00:00.5Z"`
		detail  = summary + `,"updated_at":"2026-01-01T00:00:00Z","thumbnails":[],"workflow_id":"process-photo-` + id + `"`
	)
	jsonWith := func(fields ...string) http.Header {
		header := http.Header{"Content-Type": {"application/json"}}
		for i := 0; i < len(fields); i += 2 {
			header.Set(fields[i], fields[i+1])
		}
		return header
	}
	for name, test := range map[string]struct {
		method, path string
		status       int
		header       http.Header
		body         string
		want         string // of the error; none if empty
	}{
		"a photo":                     {path: "/photos/" + id, body: `{` + detail + `}`},
		"a failed photo":              {path: "/photos/" + id, body: `{` + detail + `,"failure":{"code":"internal","message":"x"}}`},
		"an unknown failure code":     {path: "/photos/" + id, body: `{` + detail + `,"failure":{"code":"nonsense","message":"x"}}`, want: "not one of the allowed values"},
		"a missing field":             {path: "/photos/" + id, body: `{` + summary + `}`, want: `"workflow_id" is missing`},
		"an undocumented field":       {path: "/photos/" + id, body: `{` + detail + `,"secret":1}`, want: `"secret" is unsupported`},
		"a nested undocumented field": {path: "/photos/" + id, body: `{` + detail + `,"failure":{"code":"internal","message":"x","retry_after_ns":1}}`, want: `"retry_after_ns" is unsupported`},
		"a null list":                 {path: "/photos/pending", body: `null`, want: "not nullable"},
		"an element of a list":        {path: "/photos/pending", body: `[{"uuid":"x"}]`, want: `"url" is missing`},
		"an object for a list":        {path: "/photos/pending", body: `{}`, want: "must be an array"},
		"no UUID":                     {path: "/photos/pending", body: `[{` + strings.Replace(summary, id, "x", 1) + `}]`, want: "uuid"},
		"no time":                     {path: "/photos/pending", body: `[{` + strings.Replace(summary, "T00", " 00", 1) + `}]`, want: "date-time"},
		"an undocumented status":      {path: "/photos/pending", status: http.StatusTeapot, body: `{"message":"x"}`, want: "has no status 418"},
		"an undocumented 304":         {path: "/photos/pending", status: http.StatusNotModified, want: "has no status 304"},
		"an undocumented header":      {path: "/photos/pending", body: `[]`, header: jsonWith("X-Debug", "1"), want: "has no header X-Debug"},
		"an undocumented media type":  {path: "/photos/pending", body: `[]`, header: http.Header{"Content-Type": {"text/html"}}, want: "Content-Type"},
		"503":                         {path: "/photos/pending", status: 503, body: `{"message":"x"}`, header: jsonWith("Retry-After", "5")},
		"503 without Retry-After":     {path: "/photos/pending", status: 503, body: `{"message":"x"}`, want: "Retry-After"},
		"rejected elements":           {method: http.MethodPost, path: "/photos/process", status: 201, body: `{"accepted":[],"rejected":[null,1e400,"x",[{}],true]}`},
		"an unknown path":             {path: "/nonsense", status: 404, body: `{"message":"x"}`},
		"an unknown path that exists": {path: "/nonsense", body: `{"message":"x"}`, want: "no such request"},
		"405 without Allow":           {method: http.MethodDelete, path: "/photos", status: 405, body: `{"message":"x"}`, want: "no such request"},
		"405":                         {method: http.MethodDelete, path: "/photos", status: 405, body: `{"message":"x"}`, header: jsonWith("Allow", "POST")},
		"405 with another body":       {method: http.MethodDelete, path: "/photos", status: 405, body: `{"error":"x"}`, header: jsonWith("Allow", "POST"), want: `"error" is unsupported`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.method == "" {
				test.method = http.MethodGet
			}
			if test.status == 0 {
				test.status = http.StatusOK
			}
			if test.header == nil {
				test.header = jsonWith()
			}
			req, err := http.NewRequestWithContext(t.Context(), test.method, "http://127.0.0.1:3000"+test.path, nil)
			require.NoError(t, err)
			err = contract.check(&http.Response{Request: req, StatusCode: test.status, Header: test.header}, []byte(test.body))
			if test.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.want)
			}
		})
	}
}

// TestFailureCodesAreDocumented compares the codes of internal/photo with those
// of the contract, with the table in README.md, and with the advice of the page
// and of docs/operating.md.
func TestFailureCodesAreDocumented(t *testing.T) {
	t.Parallel()
	codes := failureCodes(t)
	contract, err := loadContract()
	require.NoError(t, err)
	var enum []string
	for _, code := range contract.doc.Components.Schemas["FailureCode"].Value.Enum {
		enum = append(enum, code.(string))
	}
	require.ElementsMatch(t, codes, enum, "FailureCode in openapi.yaml")
	var listed []string
	for _, code := range photo.Codes {
		listed = append(listed, string(code))
	}
	require.ElementsMatch(t, codes, listed, "photo.Codes")

	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	_, rows, found := strings.Cut(string(readme), "\n| code | when | failures |\n| --- | --- | --- |\n")
	require.True(t, found, "the table of codes in README.md")
	var table []string
	for line := range strings.Lines(rows) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			break
		}
		for _, code := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(cells[1], -1) {
			table = append(table, code[1])
			if photo.Code(code[1]) != photo.Canceled {
				require.Equal(t, strconv.Itoa(photo.Code(code[1]).RetryBudget()), strings.TrimSpace(cells[3]), "failures of %s", code[1])
			}
		}
	}
	require.ElementsMatch(t, codes, table, "the table of codes in README.md")

	page, err := os.ReadFile("page/app.js")
	require.NoError(t, err)
	operating, err := os.ReadFile("../docs/operating.md")
	require.NoError(t, err)
	_, alert, found := strings.Cut(string(operating), "\n### PhotosFailing\n")
	require.True(t, found, "the alert's section in docs/operating.md")
	alert, _, _ = strings.Cut(alert, "\n### ")
	for _, code := range codes {
		require.Contains(t, string(page), "\n  "+code+`: "`, "the advice in api/page/app.js")
		if photo.Code(code) != photo.Canceled {
			require.Contains(t, alert, "`"+code+"`", "the table of PhotosFailing in docs/operating.md")
		}
	}
}

// failureCodes reads the constants of the type photo.Code in internal/photo,
// but for photo.NotFound, which no photo can have.
func failureCodes(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../internal/photo/failure.go", nil, 0)
	require.NoError(t, err)
	var codes []string
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); !ok || typ.Name != "Code" {
			return true
		}
		for _, value := range spec.Values {
			code, err := strconv.Unquote(value.(*ast.BasicLit).Value)
			require.NoError(t, err)
			if photo.Code(code) != photo.NotFound {
				codes = append(codes, code)
			}
		}
		return true
	})
	require.NotEmpty(t, codes)
	return codes
}
