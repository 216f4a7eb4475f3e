package executor

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// Variables are the names that the user's code has bound, sorted.
type Variables struct {
	Variables []Variable `json:"variables"`
	Truncated bool       `json:"truncated"` // there are more
}

// Variable tells about a name and its value. What the kernel could not find out, or
// not in time, is left out.
type Variable struct {
	Name   string  `json:"name"`
	Kind   string  `json:"kind"` // variable, function, class or module
	Type   string  `json:"type"` // name of the value's class
	Module string  `json:"module,omitempty"`
	Size   *int64  `json:"size,omitempty"` // bytes, without what a container refers to
	Length *int64  `json:"length,omitempty"`
	Shape  []int64 `json:"shape,omitempty"` // of an array or a DataFrame
	Dtype  string  `json:"dtype,omitempty"`
	Repr   string  `json:"repr"` // a short text, which is not what the value's own __repr__ says
}

// Variables asks the kernel for its variables; it answers between two runs, and runs no
// code of the user's for it. ErrUnsupported where the kernel was not started by our launcher.
func (c *Context) Variables(ctx context.Context) (Variables, error) {
	if !c.conn.Info().Has(wire.Variables) {
		return Variables{}, ErrUnsupported
	}
	reply, err := c.ask(ctx, "k2_variables_request", map[string]any{})
	if err != nil {
		return Variables{}, err
	}
	var answer Variables
	if err := json.Unmarshal(reply.Content, &answer); err != nil {
		return Variables{}, fmt.Errorf("cannot read the kernel's variables: %w", err)
	}
	if answer.Variables == nil {
		answer.Variables = []Variable{}
	}
	return answer, nil
}
