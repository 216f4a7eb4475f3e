package envd

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// number is an uint32, which proto3's JSON mapping reads from a number or from text.
type number uint32

// UnmarshalJSON is for package json.
func (n *number) UnmarshalJSON(raw []byte) error {
	if bytes.Equal(raw, []byte("null")) {
		return nil
	}
	text := string(raw)
	if raw[0] == '"' {
		if err := json.Unmarshal(raw, &text); err != nil {
			return err
		}
	}
	v, err := strconv.ParseFloat(text, 64) // 1e2 and 1.0 are whole numbers, too
	if err != nil || v != math.Trunc(v) || v < 0 || v > math.MaxUint32 {
		return errorf(invalidArgument, "expected a number from 0 to %d, got %.40s", uint32(math.MaxUint32), raw)
	}
	*n = number(v)
	return nil
}

// data is bytes, which the mapping reads from base64 of either alphabet, padded or not.
type data []byte

// UnmarshalJSON is for package json.
func (d *data) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return errorf(invalidArgument, "expected bytes in base64: %v", err)
	}
	text = strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(text), "=")
	decoded, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return errorf(invalidArgument, "expected bytes in base64: %v", err)
	}
	*d = decoded
	return nil
}
