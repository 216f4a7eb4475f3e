package k2sandbox_test

import (
	"os"
	"strings"
	"testing"
)

// The Go code in the README is the Example above, which runs.
func TestREADME(t *testing.T) {
	readme := read(t, "README.md")
	_, shown, _ := strings.Cut(readme, "```go\n")
	shown, _, found := strings.Cut(shown, "```")
	if !found {
		t.Fatal("README.md has no block of Go")
	}
	_, body, _ := strings.Cut(read(t, "example_test.go"), "func Example() {\n")
	body, _, _ = strings.Cut(body, "\t// Output:")
	body = strings.ReplaceAll("\n"+body, "\n\t", "\n")
	if strings.TrimSpace(shown) != strings.TrimSpace(body) {
		t.Errorf("README.md shows\n%s\nbut example_test.go runs\n%s", shown, body)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
