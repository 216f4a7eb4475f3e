package notebook

// Declared is a parameter that a notebook declares in its parameters cell.
type Declared struct {
	Name    string `json:"name"`
	Type    string `json:"inferred_type_name"` // as the notebook names it, or "None"
	Default string `json:"default"`            // source of the default value
	Help    string `json:"help"`
}
