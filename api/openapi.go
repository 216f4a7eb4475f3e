package api

import _ "embed"

// OpenAPI is the OpenAPI document, in YAML.
//
//go:embed openapi.yaml
var OpenAPI []byte
