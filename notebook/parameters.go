package notebook

// Parameter is a value to run a notebook with. Value is nil, a bool, string,
// integer, float64 or json.Number, or a []any or map[string]any of such values.
type Parameter struct {
	Name  string
	Value any
}
