package notebook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tidwall/gjson"
)

// Object is a JSON object whose members keep their order and their bytes: those
// that are not set or deleted are written as they were read. The zero Object is
// empty. A copy shares nothing that Set or Delete change.
type Object struct {
	members []member
	raw     string // all of it as it was read, until something changes
}

// member is a member of a JSON object.
type member struct {
	key   string
	name  string // the key as it stands, quoted
	value string // JSON
	fresh bool   // was not read from the document, so that it has no layout yet
}

func (m member) result() gjson.Result { return gjson.Parse(m.value) }

// Keys returns the keys in their order.
func (o *Object) Keys() []string {
	var keys []string
	for _, m := range o.members {
		keys = append(keys, m.key)
	}
	return keys
}

// Len returns the number of members.
func (o *Object) Len() int { return len(o.members) }

// Get returns the value of a key as JSON, and whether there is one. Of equal keys
// the last counts, as in most readers of JSON.
func (o *Object) Get(key string) (json.RawMessage, bool) {
	for _, m := range slices.Backward(o.members) {
		if m.key == key {
			return json.RawMessage(m.value), true
		}
	}
	return nil, false
}

// Set makes value, encoded as JSON, the value of a key. A new key goes where it
// belongs if the keys are sorted, else to the end. It panics where value cannot be
// encoded, which is a mistake of the program.
func (o *Object) Set(key string, value any) {
	m := member{key: key, name: quote(key), value: encode(value), fresh: true}
	if old, ok := o.Get(key); ok && string(old) == m.value {
		return
	}
	o.raw = ""
	o.members = slices.Clone(o.members)
	same := func(m member) bool { return m.key == key }
	i := slices.IndexFunc(o.members, same)
	o.members = slices.DeleteFunc(o.members, same)
	if keys := o.Keys(); i < 0 && slices.IsSorted(keys) {
		i, _ = slices.BinarySearch(keys, key)
	} else if i < 0 {
		i = len(keys)
	}
	o.members = slices.Insert(o.members, i, m)
}

// Delete removes a key, if it is there.
func (o *Object) Delete(key string) {
	if _, ok := o.Get(key); ok {
		o.raw = ""
		o.members = slices.DeleteFunc(slices.Clone(o.members), func(m member) bool { return m.key == key })
	}
}

// MarshalJSON returns the object, members as they are.
func (o Object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o.members {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(m.name + ":" + m.value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON takes a copy of a JSON object; null leaves o as it is.
func (o *Object) UnmarshalJSON(raw []byte) error {
	v := gjson.ParseBytes(raw)
	if v.Type == gjson.Null {
		return nil
	}
	if !v.IsObject() {
		return fmt.Errorf("want a JSON object, not %.40q", raw)
	}
	*o = Object{members: membersOf(v, true)}
	return nil
}

// membersOf returns the members of a JSON object, none of another value.
func membersOf(object gjson.Result, fresh bool) []member {
	var members []member
	if !object.IsObject() {
		return nil
	}
	object.ForEach(func(key, value gjson.Result) bool {
		members = append(members, member{key: unquote(key.Raw), name: key.Raw, value: value.Raw, fresh: fresh})
		return true
	})
	return members
}

// encode returns value as JSON, without the escapes that only HTML needs.
func encode(value any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		panic(fmt.Sprintf("notebook: a value that is no JSON: %v", err))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// unquote returns the text of a JSON string.
func unquote(quoted string) string {
	if !strings.Contains(quoted, `\`) {
		return strings.ToValidUTF8(quoted[1:len(quoted)-1], "\ufffd")
	}
	var text string
	_ = json.Unmarshal([]byte(quoted), &text) // is a valid string
	return text
}
