package network

import (
	"encoding/json"
	"fmt"
	"testing"
)

// What the next stack is told goes on where the one before has been.
func TestAliasesGoOn(t *testing.T) {
	var old, next, none aliases
	first := old.of("first.example")
	for i := range maxAliases {
		old.of(fmt.Sprintf("%d.example", i))
	}
	if got := old.name(first); got != "" {
		t.Errorf("the oldest is %q still", got)
	}
	kept, last := old.of("7.example"), old.of(fmt.Sprintf("%d.example", maxAliases-1))
	text, err := json.Marshal(old.all())
	if err != nil {
		t.Fatal(err)
	}
	var told Aliases
	if err := json.Unmarshal(text, &told); err != nil {
		t.Fatal(err)
	}
	next.restore(told)
	if got := next.name(kept); got != "7.example" || next.of("7.example") != kept {
		t.Errorf("got %q", got)
	}
	if got := next.of("new.example"); got == last || next.name(last) == "" || next.name(got) != "new.example" {
		t.Errorf("a new one is %v, after %v", got, last)
	}
	none.restore(Aliases{})
	if got := none.name(none.of("a.example")); got != "a.example" {
		t.Errorf("got %q", got)
	}
}
