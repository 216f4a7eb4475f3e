package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/k2sandbox/k2sandbox/api"
)

// Validator is a payload that can say which of its fields is wrong.
type Validator interface{ Validate() error }

// Decode reads the body of a request, one JSON object, into the struct that v
// points to, and validates it. It is strict: a name that v has no field for (in
// exactly that case), a name given twice, a missing or null required field, a
// value of the wrong type, bad UTF-8 and anything after the object are errors,
// which name the field. Other fields may be null, which is the same as left out.
// No body at all stands for {}.
func Decode(r *http.Request, v any) error { return decode(r, v, false) }

// DecodeKnown is Decode for a protocol whose clients may send more than v has fields for,
// which is left out, and null in place of no body.
func DecodeKnown(r *http.Request, v any) error { return decode(r, v, true) }

// DecodeBytes is Decode for a JSON object that came another way.
func DecodeBytes(body []byte, v any) error { return decodeBytes(body, v, false) }

func decode(r *http.Request, v any, known bool) error {
	body, err := readBody(r)
	if err != nil {
		return err
	}
	return decodeBytes(body, v, known)
}

func decodeBytes(body []byte, v any, known bool) error {
	if !utf8.Valid(body) {
		return api.Errorf(api.InvalidRequest, "the body is not valid UTF-8")
	}
	if at := LoneSurrogate(body); at >= 0 {
		return api.Errorf(api.InvalidRequest, "the body has half of a surrogate pair (%s), which is no character, at byte %d", body[at:at+6], at)
	}
	if text := bytes.TrimSpace(body); len(text) == 0 || known && string(text) == "null" {
		body = []byte("{}")
	}
	d := decoder{json.NewDecoder(bytes.NewReader(body)), known}
	if err := d.object("", reflect.ValueOf(v).Elem()); err != nil {
		return err
	}
	end := d.InputOffset()
	if _, err := d.Token(); err != io.EOF {
		return api.Errorf(api.InvalidRequest, "the body goes on after its JSON object, at byte %d", end)
	}
	if v, ok := v.(Validator); ok {
		return v.Validate()
	}
	return nil
}

func readBody(r *http.Request) ([]byte, error) {
	if err := checkContentType(r.Header); err != nil {
		return nil, err
	}
	var body bytes.Buffer
	if r.ContentLength > 0 {
		body.Grow(int(min(r.ContentLength, 1<<20)) + bytes.MinRead)
	}
	_, err := body.ReadFrom(r.Body)
	var large *http.MaxBytesError
	var told *api.Error
	switch {
	case errors.As(err, &told):
		return nil, told
	case errors.As(err, &large):
		return nil, api.Errorf(api.TooLarge, "the body is longer than %d bytes", large.Limit)
	case err != nil:
		return nil, api.Errorf(api.InvalidRequest, "cannot read the body: %v", err)
	}
	return body.Bytes(), nil
}

// checkContentType refuses a body that says it is something else than JSON. That
// keeps out the forms of foreign web pages, too.
func checkContentType(h http.Header) error {
	if enc := h.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return api.Errorf(api.UnsupportedMedia, "Content-Encoding %q is not supported", enc)
	}
	given := h.Get("Content-Type")
	if given == "" {
		return nil
	}
	typ, params, err := mime.ParseMediaType(given)
	charset, isSet := params["charset"]
	if err != nil || typ != "application/json" || isSet && !strings.EqualFold(charset, "utf-8") {
		return api.Errorf(api.UnsupportedMedia, "Content-Type %q is not supported: send application/json (curl: --json)", given)
	}
	return nil
}

// decoder reads objects member by member, so that each error can name its field.
type decoder struct {
	*json.Decoder
	known bool // fields that there is no place for are left out
}

func (d decoder) object(name string, v reflect.Value) error {
	tok, err := d.Token()
	if err != nil {
		return d.invalid(name, err)
	}
	if tok != json.Delim('{') {
		return d.wrongType(name, "an object", tok)
	}
	fields, seen := fieldsOf(v), map[string]bool{}
	for d.More() {
		tok, err := d.Token()
		if err != nil {
			return d.invalid(name, err)
		}
		key := tok.(string) // Token allows nothing else here
		if seen[key] {
			return api.Invalid(join(name, key), "is there twice")
		}
		seen[key] = true
		if err := d.member(join(name, key), key, v, fields); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return d.invalid(name, err)
	}
	for _, f := range fields {
		if f.required && !seen[f.name] {
			return api.Invalid(join(name, f.name), "is required")
		}
	}
	return nil
}

// member reads the value of the member key of an object.
func (d decoder) member(name, key string, object reflect.Value, fields []field) error {
	if object.Kind() == reflect.Map {
		value := reflect.New(object.Type().Elem()).Elem()
		if err := d.value(name, true, value); err != nil {
			return err
		}
		if object.IsNil() {
			object.Set(reflect.MakeMap(object.Type()))
		}
		object.SetMapIndex(reflect.ValueOf(key), value)
		return nil
	}
	for _, f := range fields {
		if f.name == key {
			return d.value(name, f.required, object.Field(f.index))
		}
	}
	if d.known {
		return d.value(name, false, reflect.ValueOf(new(json.RawMessage)).Elem())
	}
	return api.Invalid(name, "unknown field")
}

// value reads a value into v, which stays as it is where the value is null.
func (d decoder) value(name string, required bool, v reflect.Value) error {
	var raw json.RawMessage
	if err := d.Decoder.Decode(&raw); err != nil {
		return d.invalid(name, err)
	}
	switch {
	case string(raw) == "null" && required:
		return d.wrongType(name, article(v.Type()), nil)
	case string(raw) == "null":
		return nil
	case v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Struct:
		v.Set(reflect.New(v.Type().Elem()))
		return decoder{json.NewDecoder(bytes.NewReader(raw)), d.known}.object(name, v.Elem())
	case v.Kind() == reflect.Struct || v.Kind() == reflect.Map:
		return decoder{json.NewDecoder(bytes.NewReader(raw)), d.known}.object(name, v)
	}
	err := json.Unmarshal(raw, v.Addr().Interface())
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return api.Invalid(name, "expected %s, got %s", article(v.Type()), wrong.Value)
	}
	if err != nil {
		return d.invalid(name, err)
	}
	return nil
}

func (d decoder) invalid(name string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ends too early")
	}
	if name == "" {
		return api.Errorf(api.InvalidRequest, "the body is not valid JSON: %v", err)
	}
	return api.Invalid(name, "not valid JSON: %v", err)
}

func (d decoder) wrongType(name, expected string, got any) error {
	kind := fmt.Sprintf("%T", got)
	switch got.(type) {
	case nil:
		kind = "null"
	case json.Delim:
		kind = "array"
	case float64:
		kind = "number"
	}
	if name == "" {
		return api.Errorf(api.InvalidRequest, "the body must be %s, not %s", expected, kind)
	}
	return api.Invalid(name, "expected %s, got %s", expected, kind)
}

// field is a member that a struct has a place for.
type field struct {
	name     string
	index    int
	required bool
}

func fieldsOf(v reflect.Value) []field {
	if v.Kind() != reflect.Struct {
		return nil
	}
	fields := make([]field, 0, v.NumField())
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields = append(fields, field{name, i, f.Tag.Get("api") == "required"})
	}
	return fields
}

// article names a type as JSON knows it.
func article(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return article(t.Elem())
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "an integer"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "an array"
	}
	return "an object"
}

func join(object, member string) string {
	if object == "" {
		return member
	}
	return object + "." + member
}
