package inside_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/k2sandbox/k2sandbox/api"
)

// node is an object of the OpenAPI document.
type node map[string]any

func document(t *testing.T) node {
	t.Helper()
	var doc node
	if err := yaml.Unmarshal(api.OpenAPI, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// at walks down by keys; nil where there is nothing. It follows references of doc.
func (n node) at(doc node, keys ...string) node {
	for _, key := range keys {
		n = deref(doc, n)
		switch next := n[key].(type) {
		case node:
			n = next
		case map[string]any:
			n = next
		default:
			return nil
		}
	}
	return deref(doc, n)
}

func deref(doc, n node) node {
	ref, ok := n["$ref"].(string)
	if !ok {
		return n
	}
	for _, key := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
		doc = toNode(doc[key])
	}
	if doc == nil {
		panic("no " + ref)
	}
	return doc
}

func toNode(v any) node {
	switch v := v.(type) {
	case node:
		return v
	case map[string]any:
		return v
	}
	return nil
}

func texts(v any) []string {
	var all []string
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		for _, one := range v {
			all = append(all, fmt.Sprint(one))
		}
	}
	return all
}

// check returns what is wrong with a JSON text by a schema of the document, as far
// as the document uses JSON Schema.
func check(doc, schema node, raw string) error {
	var v any
	if err := json.Unmarshal([]byte(raw), &v); err != nil {
		return err
	}
	return valid(doc, schema, v, "body")
}

func valid(doc, schema node, v any, where string) error {
	schema = deref(doc, schema)
	if mapping := schema.at(doc, "discriminator", "mapping"); mapping != nil {
		object, _ := v.(map[string]any)
		ref, ok := mapping[fmt.Sprint(object["type"])].(string)
		if !ok {
			return fmt.Errorf("%s: type %v is in no schema", where, object["type"])
		}
		return valid(doc, node{"$ref": ref}, v, where)
	}
	if want, ok := schema["const"]; ok && want != v {
		return fmt.Errorf("%s: %v is not %v", where, v, want)
	}
	if enum := texts(schema["enum"]); enum != nil && !slices.Contains(enum, fmt.Sprint(v)) {
		return fmt.Errorf("%s: %v is none of %v", where, v, enum)
	}
	if types := texts(schema["type"]); types != nil && !slices.ContainsFunc(types, func(t string) bool { return is(t, v) }) {
		return fmt.Errorf("%s: %v is no %v", where, v, types)
	}
	if pattern, ok := schema["pattern"].(string); ok {
		if s, ok := v.(string); ok && !regexp.MustCompile(pattern).MatchString(s) {
			return fmt.Errorf("%s: %q does not match %s", where, v, pattern)
		}
	}
	if s, ok := v.(string); ok && schema["minLength"] == 1 && s == "" {
		return fmt.Errorf("%s: empty", where)
	}
	if not := schema.at(doc, "not"); not != nil && valid(doc, not, v, where) == nil {
		return fmt.Errorf("%s: %v is what it must not be", where, v)
	}
	switch v := v.(type) {
	case []any:
		for i, one := range v {
			if err := valid(doc, toNode(schema["items"]), one, fmt.Sprintf("%s[%d]", where, i)); err != nil {
				return err
			}
		}
	case map[string]any:
		return validObject(doc, schema, v, where)
	}
	return nil
}

func validObject(doc, schema node, v map[string]any, where string) error {
	for _, name := range texts(schema["required"]) {
		if _, ok := v[name]; !ok {
			return fmt.Errorf("%s: no %s", where, name)
		}
	}
	for name, value := range v {
		member := schema.at(doc, "properties", name)
		if member == nil && schema["additionalProperties"] == false {
			return fmt.Errorf("%s: %s is not in the schema", where, name)
		}
		if member == nil {
			member = toNode(schema["additionalProperties"])
		}
		if err := valid(doc, member, value, where+"."+name); err != nil {
			return err
		}
	}
	return nil
}

// is reports whether v is of a type of JSON Schema.
func is(typ string, v any) bool {
	switch v := v.(type) {
	case nil:
		return typ == "null"
	case bool:
		return typ == "boolean"
	case string:
		return typ == "string"
	case float64:
		return typ == "number" || typ == "integer" && v == math.Trunc(v)
	case []any:
		return typ == "array"
	}
	return typ == "object"
}

// operation is an operation of the document.
type operation struct {
	node
	id, method, path string
}

func operations(t *testing.T, doc node) []operation {
	t.Helper()
	var all []operation
	paths := doc.at(doc, "paths")
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		for method, op := range toNode(paths[path]) {
			if method == "parameters" {
				continue
			}
			id, _ := toNode(op)["operationId"].(string)
			all = append(all, operation{toNode(op), id, strings.ToUpper(method), path})
		}
	}
	return all
}

// examples returns the bodies that the document gives for the operation, as JSON;
// one that is empty where it has none.
func (op operation) examples(t *testing.T, doc node) []string {
	t.Helper()
	body := op.at(doc, "requestBody", "content", "application/json")
	if body == nil {
		return []string{""}
	}
	values := []any{}
	for _, example := range body.at(doc, "examples") {
		values = append(values, toNode(example)["value"])
	}
	if example, ok := body["example"]; ok {
		values = append(values, example)
	}
	var all []string
	for _, value := range values {
		raw, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(doc, body.at(doc, "schema"), string(raw)); err != nil {
			t.Errorf("%s: example %s: %v", op.id, raw, err)
		}
		all = append(all, string(raw))
	}
	return all
}
