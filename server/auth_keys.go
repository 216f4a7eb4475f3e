package server

import (
	"bufio"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// Keys are the API keys that a server takes, of which it keeps but the SHA-256. nil
// has none. Keys do not change while a server uses them.
type Keys struct{ keys []apiKey }

type apiKey struct {
	name string
	hash [sha256.Size]byte
}

const maxKeys, maxKey = 1000, 512

var (
	validKeyName = lazy.Regexp(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)
	validKey     = lazy.Regexp(`^[!-9;-~]+$`) // one that fits into a header, without a colon
)

// ReadKeys reads keys, one a line: NAME:KEY, or KEY alone, whose name is then made of
// its hash. Several keys may have one name, which stands for their owner. Empty lines
// and lines that begin with # are passed over. Errors name the line and never the key.
func ReadKeys(r io.Reader) (*Keys, error) {
	keys := &Keys{}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := keys.add(line); err != nil {
			return nil, fmt.Errorf("cannot read API keys: line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("cannot read API keys: %w", err)
	}
	return keys, nil
}

// add adds a key, given as NAME:KEY or KEY.
func (k *Keys) add(given string) error {
	name, secret, named := strings.Cut(given, ":")
	if !named {
		secret = given
	}
	hash := sha256.Sum256([]byte(secret))
	if !named {
		name = fmt.Sprintf("key-%x", hash[:4])
	}
	switch {
	case !validKeyName().MatchString(name):
		return errors.New("the name of a key has 1 to 64 letters, digits and . _ @ -")
	case len(secret) > maxKey || !validKey().MatchString(secret):
		return fmt.Errorf("a key has 1 to %d printable ASCII characters, no spaces and no colon", maxKey)
	case len(k.keys) == maxKeys:
		return fmt.Errorf("there are more than %d keys", maxKeys)
	}
	if _, known := k.Find(secret); known {
		return errors.New("the key is there twice")
	}
	k.keys = append(k.keys, apiKey{name, hash})
	return nil
}

// Len returns how many keys there are.
func (k *Keys) Len() int {
	if k == nil {
		return 0
	}
	return len(k.keys)
}

// Named reports whether there is a key of that name.
func (k *Keys) Named(name string) bool {
	return k != nil && slices.ContainsFunc(k.keys, func(one apiKey) bool { return one.name == name })
}

// Find returns the name of a key. How long that takes tells nothing about the keys.
func (k *Keys) Find(secret string) (name string, ok bool) {
	hash := sha256.Sum256([]byte(secret))
	if k != nil {
		for i := range k.keys {
			if subtle.ConstantTimeCompare(hash[:], k.keys[i].hash[:]) == 1 {
				name, ok = k.keys[i].name, true
			}
		}
	}
	return name, ok
}
