// Package openapi is the client of the HTTP API, generated from api/openapi.yaml.
// Package client makes it convenient.
package openapi

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config config.yaml -o openapi.gen.go ../../../api/openapi.yaml
