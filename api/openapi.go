package api

import _ "embed"

// OpenAPI is the OpenAPI document of one sandbox, in YAML.
//
//go:embed openapi.yaml
var OpenAPI []byte

// ServerOpenAPI is the OpenAPI document of a server of many sandboxes, in YAML. Below the
// path of each it has what OpenAPI says.
//
//go:embed server.yaml
var ServerOpenAPI []byte
